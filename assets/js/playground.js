// The playground: one question, up to three models. Each column is a call of its own, which ends when nobody listens.
(() => {
  const root = document.getElementById("playground");
  const ask = document.getElementById("playground-ask");
  const [prompt, system] = [document.getElementById("prompt"), document.getElementById("system")];
  const columns = [...root.querySelectorAll("[data-column]")];
  const tabs = [...root.querySelectorAll(".playground-tabs > button")];
  const costs = JSON.parse(root.dataset.costs);
  const running = new Map(); // what ends the call of a column
  const words = (name) => document.getElementById(`playground-${name}`).content.cloneNode(true);
  const button = (within, name) => within.querySelector(`[data-playground="${name}"]`);
  const modelOf = (column) => column.querySelector('[name="model"]').value || root.dataset.preferred;
  const nameOf = (column) => column.querySelector("[data-picker-shown]").textContent.trim();
  const shown = () => columns.filter((column) => !column.hidden);

  // ------------------------------------------------------------------------------------------------------- one column

  function setState(column, state) {
    column.dataset.state = state;
    tabs[columns.indexOf(column)].dataset.state = state;
    root.dataset.running = String(running.size > 0);
    button(root, "stop-all").hidden = running.size < 2;
  }

  function show(column, ...nodes) {
    column.querySelector("[data-body]").replaceChildren(...nodes);
  }

  const asHtml = (html, tag = "div") => Object.assign(document.createElement(tag), { innerHTML: html });

  async function run(column) {
    if (!prompt.reportValidity()) return;
    stop(column);
    const end = new AbortController();
    running.set(column, end);
    show(column, words("waiting"));
    setState(column, "waiting");
    const fields = new URLSearchParams({ prompt: prompt.value, system: system.value, model: modelOf(column) });
    const headers = { "Accept": "text/event-stream", "X-CSRF-Token": document.querySelector('meta[name="csrf-token"]').content };
    let state = "done";
    try {
      const response = await fetch("/playground/run", { method: "POST", body: fields, headers, signal: end.signal });
      if (response.redirected) return signIn();
      if (response.headers.get("content-type").startsWith("text/event-stream")) await read(column, response, end);
      else {
        show(column, asHtml(await response.text()));
        state = "refused";
      }
    } catch {
      if (running.get(column) !== end) return; // another run has begun
      state = end.signal.aborted ? "stopped" : "broken";
      column.querySelector("[data-body] .skeleton")?.parentElement.remove();
      column.querySelector("[data-body]").append(words(state));
    }
    if (running.get(column) === end) running.delete(column);
    setState(column, state);
  }

  async function read(column, response, end) {
    const answer = asHtml("");
    answer.className = "prose playground-text";
    answer.id = `answer-${column.dataset.column}`;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let done = false;
    for (;;) {
      const { value, done: over } = await reader.read();
      if (over) break;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      if (running.get(column) !== end) return;
      for (const event of events) {
        const [, name, data] = event.match(/^event: (\w+)\ndata: (.*)$/);
        const text = JSON.parse(data);
        if (name === "html" && text) {
          answer.innerHTML = text;
          if (!answer.isConnected) show(column, answer);
          setState(column, "writing");
        } else if (name === "done") {
          done = true;
          column.querySelector("[data-body] .skeleton")?.parentElement.remove();
          column.querySelector("[data-body]").append(asHtml(text));
        }
      }
    }
    if (!done) throw new Error("the answer has no end");
    document.getElementById("playground-said").textContent = words("done").textContent.replace("{model}", nameOf(column));
  }

  const stop = (column) => running.get(column)?.abort();

  // The session is over: what was typed waits in this window until they are back.
  function signIn() {
    sessionStorage.setItem("playground", JSON.stringify([prompt.value, system.value]));
    location.href = "/sign-in?next=/playground";
  }

  // ------------------------------------------------------------------------------------------------------ all of them

  function setShown(column, is) {
    stop(column);
    column.hidden = tabs[columns.indexOf(column)].hidden = !is;
    if (!is) {
      show(column, words("none"));
      setState(column, "empty");
    }
    arrange();
  }

  function arrange() {
    const now = shown();
    button(root, "add").hidden = now.length === columns.length;
    now.forEach((column) => (button(column, "remove").hidden = now.length === 1));
    columns.forEach((column, at) => (tabs[at].querySelector("[data-name]").textContent = nameOf(column)));
    const most = now.map((column) => costs[modelOf(column)] ?? null);
    const sum = most.reduce((all, one) => all + (one ?? 0), 0);
    const kind = most.includes(null) ? "unknown" : sum > 0 ? "some" : "none";
    document.querySelectorAll("[data-cost]").forEach((one) => (one.hidden = one.dataset.cost !== kind));
    const credits = new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: 2 });
    document.querySelector("[data-sum]").textContent = credits.format(Math.ceil(sum / 10_000) / 100);
  }

  ask.addEventListener("submit", (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    shown().forEach(run);
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask.requestSubmit();
  });

  const acts = {
    "add": () => setShown(columns.find((column) => column.hidden), true),
    "remove": (column) => setShown(column, false),
    "stop": stop,
    "stop-all": () => shown().forEach(stop),
    "again": run,
    "show": (_, pressed) => columns[pressed.dataset.to - 1].scrollIntoView({ block: "nearest", inline: "center" }),
    "chat": (column) => {
      sessionStorage.setItem(`draft:${root.dataset.person}:/chat`, prompt.value); // where the chat looks for it
      location.href = `/chat?${new URLSearchParams({ model: modelOf(column) })}`;
    },
  };
  root.addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-playground]");
    if (pressed) acts[pressed.dataset.playground]?.(pressed.closest("[data-column]"), pressed);
  });
  root.addEventListener("change", arrange);

  // On phones one column is seen at a time: its tab is lit.
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) tabs.forEach((tab) => tab.setAttribute("aria-current", String(tab.dataset.to === entry.target.dataset.column)));
      }
    },
    { root: root.querySelector(".playground-columns"), threshold: 0.6 },
  );
  columns.forEach((column) => seen.observe(column));

  const kept = sessionStorage.getItem("playground");
  if (kept) [prompt.value, system.value] = JSON.parse(kept);
  sessionStorage.removeItem("playground");
  arrange();
})();
