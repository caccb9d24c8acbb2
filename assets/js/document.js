// A text file that is read into a text field, so that no form needs to carry files.
for (const label of document.querySelectorAll("[data-reads-file]")) {
  const field = document.getElementById(label.dataset.readsFile);
  const title = field.form.elements.namedItem("title");
  label.hidden = false;
  label.querySelector("input").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    field.value = await file.text();
    if (!title.value) title.value = file.name.replace(/\.[^.]+$/, "");
    event.target.value = "";
    field.focus();
  });
}
