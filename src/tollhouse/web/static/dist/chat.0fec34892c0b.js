// A conversation: what is said is posted in the background, and its answer is read as it comes. Without this script the
// same forms work with whole pages.
(() => {
  const chat = document.getElementById("chat");
  if (!chat) return;
  const at = (id) => document.getElementById(id);
  const [form, field, log, scroller, refused] = ["composer", "message", "chat-log", "chat-scroll", "chat-refusal"].map(at);
  const words = at("chat-words").dataset;
  const [FILES_MAX, FILE_MAX, TRIES] = [5, 100_000, 4];
  const token = () => document.querySelector('meta[name="csrf-token"]').content;
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));

  // ------------------------------------------------------------------------------------------ what is being written

  let busy = false; // a message is on its way, or an answer
  let writing = null; // the article of the answer
  let wrote = 0; // when the last one of this page ended

  function setBusy(now, article = null) {
    [busy, writing] = [now, article];
    form.querySelector("[data-stop]").hidden = !article;
    form.querySelector(".send").hidden = Boolean(article);
    form.querySelector(".send").setAttribute("aria-busy", String(now && !article));
  }

  // True when it was taken.
  async function ask(path, body, taken) {
    if (busy) return false;
    setBusy(true);
    refused.replaceChildren();
    const response = await post(path, body);
    if (!isStream(response)) {
      setBusy(false);
      await refuse(response);
      return false;
    }
    setStuck(true);
    await read(response.body, null, taken);
    return true;
  }

  const post = (path, body) => {
    const headers = { "Accept": "text/event-stream", "X-CSRF-Token": token() };
    return fetch(path, { method: "POST", body, headers, redirect: "manual" }).catch(() => null);
  };
  const isStream = (response) => response?.headers.get("content-type")?.startsWith("text/event-stream") ?? false;

  async function refuse(response) {
    if (!response) refused.replaceChildren(card("offline"));
    else if (response.type === "opaqueredirect") refused.replaceChildren(card("signed-out"));
    else if (response.headers.get("content-type")?.startsWith("text/html")) refused.innerHTML = await response.text();
    else {
      const made = card("refused");
      made.querySelector("p").textContent = (await response.text()).split("\n\n").slice(1).join(" ").trim();
      refused.replaceChildren(made);
    }
    setStuck(true);
  }

  const card = (name) => at(`card-${name}`).content.firstElementChild.cloneNode(true);

  async function* eventsOf(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += value;
      for (let end = buffer.indexOf("\n\n"); end >= 0; end = buffer.indexOf("\n\n")) {
        const [first, second] = buffer.slice(0, end).split("\n");
        buffer = buffer.slice(end + 2);
        if (first.startsWith("event: ")) yield [first.slice(7), JSON.parse(second.slice(6))];
      }
    }
  }

  async function read(stream, article, taken) {
    let [fresh, finished] = [Boolean(article), false];
    const on = {
      chat: settle,
      articles: (data) => {
        article = put(data);
        setBusy(true, article);
        taken?.();
      },
      text: ({ text }) => {
        if (fresh) bodyOf(article).replaceChildren();
        fresh = false;
        grow(bodyOf(article), text);
      },
      html: ({ html }) => (bodyOf(article).innerHTML = html),
      done: (data) => {
        finished = true;
        finish(article, data);
      },
    };
    try {
      for await (const [name, data] of eventsOf(stream)) {
        on[name]?.(data);
        keepUp();
      }
    } catch {
      // the connection broke: below
    }
    if (!finished) await listen(article, 1);
  }

  // An answer that is being written already: after loading the page, and after a connection that broke.
  async function listen(article, tried = 0) {
    setBusy(true, article);
    for (; tried < TRIES; tried++) {
      if (tried) await wait(500 * 2 ** tried);
      const headers = { Accept: "text/event-stream" };
      const response = await fetch(article.dataset.writing, { headers, redirect: "manual" }).catch(() => null);
      if (isStream(response)) return read(response.body, article);
      if (response) break;
    }
    setBusy(false);
    refused.replaceChildren(card("lost"));
  }

  const bodyOf = (article) => article.querySelector("[data-body]");

  // New text goes to the end of the last block, until it comes again as HTML.
  function grow(body, text) {
    body.querySelector(".thinking")?.remove();
    const blocks = body.querySelectorAll("p, li, h3, h4, h5, h6, td, pre code");
    const last = blocks[blocks.length - 1] ?? body.appendChild(document.createElement("p"));
    last.append(text);
  }

  function made(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content;
  }

  function put({ html, replaces }) {
    at("greeting")?.remove();
    const gone = replaces && at(replaces);
    if (gone) {
      while (gone.nextElementSibling && gone.nextElementSibling !== refused) gone.nextElementSibling.remove();
      gone.remove();
    }
    const articles = made(html);
    arm(articles);
    const answer = articles.lastElementChild;
    log.insertBefore(articles, refused);
    return answer;
  }

  // The conversation has begun: the page is now that of it.
  function settle({ url, title, head, dialogs }) {
    history.replaceState(null, "", url);
    document.title = title;
    form.action = url;
    form.querySelector('[name="assistant"]')?.remove();
    at("chat-head").replaceWith(made(head));
    chat.after(made(dialogs));
    arm(document.body);
    changed();
  }

  function finish(article, { html, picker }) {
    const [fresh] = made(html).children;
    arm(fresh);
    article.replaceWith(fresh);
    window.htmx?.process(fresh);
    if (!at("model-panel")?.matches(":popover-open")) {
      at("composer-model").innerHTML = picker;
    }
    at("chat-said").textContent = `${fresh.querySelector("h2").textContent}: ${bodyOf(fresh).textContent}`;
    wrote = Date.now();
    setBusy(false);
    changed();
  }

  const changed = () => at("chat-list").dispatchEvent(new CustomEvent("chats:changed"));

  // ------------------------------------------------------------------------------------------------- what is typed

  const draft = () => `draft:${chat.dataset.person}:${location.pathname}`;

  function fit() {
    if (CSS.supports("field-sizing", "content")) return;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  }

  field.addEventListener("input", () => {
    fit();
    sessionStorage.setItem(draft(), field.value);
  });

  function send() {
    const [text, key, sent] = [field.value, draft(), files];
    if (busy || (!text.trim() && !files.length)) return;
    const body = new URLSearchParams(new FormData(form));
    for (const file of files) {
      body.append("file_name", file.name);
      body.append("file_text", file.text);
    }
    ask(form.action, body, () => {
      sessionStorage.removeItem(key);
      field.value = field.value.startsWith(text) ? field.value.slice(text.length) : field.value;
      files = files.filter((file) => !sent.includes(file));
      showFiles();
      fit();
    });
  }

  const byTouch = matchMedia("(pointer: coarse)");
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || byTouch.matches) return;
    event.preventDefault();
    send();
  });

  document.addEventListener("submit", (event) => {
    const sent = event.target;
    if (sent === form) send();
    else if (sent.matches("[data-say], [data-edit], [data-replaces]")) {
      sent.closest("dialog")?.close();
      ask(sent.action, new URLSearchParams(new FormData(sent)));
    } else return;
    event.preventDefault();
    sent.removeAttribute("aria-busy");
    field.focus();
  });

  // ---------------------------------------------------------------------------------------------------- text files

  let files = [];

  async function attach(list) {
    wrong("");
    for (const file of list) {
      if (files.length >= FILES_MAX) return wrong(words.fileMany);
      if (file.size > FILE_MAX) wrong(`${file.name}: ${words.fileLarge}`);
      else {
        const text = textOf(await file.arrayBuffer());
        if (text === null) wrong(`${file.name}: ${words.fileBinary}`);
        else files = [...files, { name: file.name.slice(-200), text }];
      }
    }
    showFiles();
  }

  function textOf(bytes) {
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
      return text.includes("\0") ? null : text.replace(/[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]/g, "");
    } catch {
      return null;
    }
  }

  function wrong(text) {
    const said = at("composer-wrong");
    [said.textContent, said.hidden] = [text, !text];
  }

  function showFiles() {
    const list = at("attached");
    list.replaceChildren(
      ...files.map((file) => {
        const [item, name, button] = ["li", "span", "button"].map((tag) => document.createElement(tag));
        name.textContent = file.name;
        [button.type, button.textContent] = ["button", "×"];
        button.setAttribute("aria-label", `${words.remove} ${file.name}`);
        button.addEventListener("click", () => {
          files = files.filter((one) => one !== file);
          showFiles();
          field.focus();
        });
        item.append(name, button);
        return item;
      }),
    );
    list.hidden = !files.length;
  }

  at("attach").addEventListener("change", async (event) => {
    await attach(event.target.files);
    event.target.value = "";
    field.focus();
  });
  const room = chat.querySelector(".chat-room");
  room.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    room.dataset.drop = words.drop;
  });
  room.addEventListener("dragleave", (event) => room.contains(event.relatedTarget) || delete room.dataset.drop);
  room.addEventListener("drop", (event) => {
    delete room.dataset.drop;
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    attach(event.dataTransfer.files);
  });

  // ------------------------------------------------------------------------------------------------ buttons and keys

  function stop() {
    if (writing) post(writing.dataset.writing.replace(/events$/, "stop"), new URLSearchParams());
  }

  document.addEventListener("click", (event) => {
    const found = (selector) => event.target.closest(selector);
    if (found("[data-stop]")) stop();
    else if (found("[data-jump]")) setStuck(true);
    else if (found("[data-reload]")) location.reload();
    else if (found("[data-close]")) close(found("details"));
    else if (found("[data-again]")) again(found("[data-again]").dataset.again);
    else if (found("a.cited")) cite(event, found("a.cited"));
    else if (found("[data-task]")) {
      event.preventDefault();
      field.value = found("[data-task]").value;
      send();
      field.focus();
    }
  });

  function close(details) {
    details.open = false;
    details.querySelector("summary").focus();
  }

  function again(path) {
    const dialog = at("again");
    dialog.querySelector("form").action = path;
    dialog.showModal();
  }

  function cite(event, link) {
    const source = at(link.hash.slice(1))?.querySelector("details");
    if (!source) return;
    event.preventDefault();
    source.open = true;
    source.scrollIntoView({ block: "nearest" });
    source.querySelector("summary").focus({ preventScroll: true });
  }

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (!at("chat-search").checkVisibility()) at("chats").showPopover();
      at("chat-search").focus();
      at("chat-search").select();
    } else if (event.key === "Escape") escape(event);
  });

  function escape(event) {
    const row = event.target.closest?.(".chat-row form");
    const edited = event.target.closest?.("details.edit[open]");
    if (row) row.querySelector("[data-cancel]").click();
    else if (edited) close(edited);
    else if (!document.querySelector("dialog[open], :popover-open, [aria-haspopup][aria-expanded='true']")) stop();
  }

  document.addEventListener(
    "toggle",
    (event) => {
      if (event.target.matches?.("details.edit") && event.target.open) event.target.querySelector("textarea").focus();
    },
    true,
  );

  // --------------------------------------------------------------------------------------------------- where it is

  let stuck = true; // the page follows what is written

  function setStuck(now) {
    stuck = now;
    chat.querySelector("[data-jump]").hidden = now;
    keepUp();
  }
  function keepUp() {
    if (stuck) scroller.scrollTop = scroller.scrollHeight;
  }
  scroller.addEventListener(
    "scroll",
    () => {
      stuck = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
      chat.querySelector("[data-jump]").hidden = stuck;
    },
    { passive: true },
  );

  // What only works with this script is shown by it.
  function arm(part) {
    part.querySelectorAll("[data-scripted]").forEach((one) => (one.hidden = false));
    if (part === document.body) window.htmx?.process(document.body);
  }

  // Another tab of the same person may have gone on with this conversation.
  document.body.addEventListener("live:conversations", async () => {
    if (busy || Date.now() - wrote < 3000) return;
    if (!chat.querySelector(".chat-row[data-mode], .dropdown-menu [aria-expanded='true']")) changed();
    if (!document.querySelector("#chat-dialogs") || log.querySelector("details.edit[open]")) return;
    const page = await fetch(location.pathname, { redirect: "manual" }).catch(() => null);
    if (!page?.ok || busy) return;
    const there = new DOMParser().parseFromString(await page.text(), "text/html").getElementById("chat-log");
    const last = (part) => [...part.querySelectorAll("article")].at(-1)?.id;
    if (!there || last(there) === last(log)) return;
    log.querySelectorAll(":scope > :not(#chat-refusal)").forEach((one) => one.remove());
    refused.before(...[...there.children].filter((one) => one.id !== "chat-refusal"));
    begin();
  });

  function begin() {
    arm(document.body);
    const article = log.querySelector("article[data-writing]");
    if (article) listen(article);
    if (log.querySelector("article, .refusal") && !location.hash) keepUp();
  }

  if (/Mac|iPhone|iPad/.test(navigator.platform)) chat.querySelector("[data-shortcut]").textContent = "⌘K";
  if (!field.value) field.value = sessionStorage.getItem(draft()) ?? "";
  fit();
  begin();
})();
