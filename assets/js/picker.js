// Choosing a model (templates/model/_picker.html, _dropdown.html). What is chosen stands in the select that browsers
// without scripts show; it changes as if somebody had used it. By delegation: what arrives later works.
(() => {
  const NARROW = matchMedia("(max-width: 639.98px)");
  const rootOf = (node) => node?.closest?.("[data-picker]");
  const panelOf = (root) => root.querySelector(":scope > .picker-panel");
  const opener = (root) => root.querySelector(":scope > [data-picker-open]");
  const isOpen = (root) => panelOf(root).matches(":popover-open");
  const shown = (root) => [...root.querySelectorAll('[role="option"]')].filter((one) => one.offsetParent !== null || one.getClientRects().length);
  const active = (root) => root.querySelector('[role="option"][data-active]');
  const field = (root) => root.querySelector("[data-picker-search], [data-picker-focus]");

  function open(root) {
    const search = root.querySelector("[data-picker-search]");
    if (search) search.value = "";
    filter(root);
    panelOf(root).showPopover();
    place(root);
    field(root).focus({ preventScroll: true });
    activate(root, root.querySelector('[role="option"][aria-selected="true"]') ?? shown(root)[0]);
  }

  // Beside its button, where there is more room; on a phone it is a sheet, which the stylesheet places.
  function place(root) {
    const [panel, button, gap] = [panelOf(root), opener(root).getBoundingClientRect(), 6];
    if (NARROW.matches) return panel.removeAttribute("style");
    const [above, below] = [button.top, innerHeight - button.bottom];
    const up = below < Math.min(panel.scrollHeight, 420) && above > below;
    const height = `${Math.max(160, Math.min(460, (up ? above : below) - 2 * gap - 8))}px`;
    const width = root.hasAttribute("data-wide") ? button.width : Math.min(416, innerWidth - 2 * gap);
    Object.assign(panel.style, {
      width: `${width}px`,
      maxHeight: height,
      left: `${Math.max(gap, Math.min(button.left, innerWidth - width - gap))}px`,
      top: up ? "auto" : `${button.bottom + gap}px`,
      bottom: up ? `${innerHeight - button.top + gap}px` : "auto",
    });
  }

  function filter(root) {
    const words = (root.querySelector("[data-picker-search]")?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    root.querySelectorAll('[role="option"]').forEach((one) => {
      one.hidden = !words.every((word) => one.dataset.words.includes(word));
      found += !one.hidden;
    });
    root.querySelectorAll('[role="group"]').forEach((group) => {
      group.hidden = !group.querySelector('[role="option"]:not([hidden])');
    });
    const nothing = root.querySelector("[data-picker-nothing]");
    if (nothing) nothing.hidden = found > 0;
    activate(root, shown(root)[0]);
  }

  function activate(root, option) {
    active(root)?.removeAttribute("data-active");
    root.querySelector("[data-picker-why]").hidden = true;
    if (!option) return field(root).removeAttribute("aria-activedescendant");
    option.setAttribute("data-active", "");
    field(root).setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  }

  function choose(root, option) {
    if (option.dataset.blocked) return explain(root, option);
    root.querySelectorAll('[role="option"]').forEach((one) => one.setAttribute("aria-selected", String(one === option)));
    root.querySelector("[data-picker-shown]").textContent = option.querySelector("[data-name]").textContent;
    const note = root.querySelector("[data-picker-note]");
    if (note) note.textContent = option.dataset.value === "auto" || !option.dataset.value ? "" : (option.querySelector("[data-note]")?.textContent ?? "");
    close(root);
    const select = root.querySelector("[data-picker-value]");
    select.value = option.dataset.value;
    select.dispatchEvent(new Event("change", { bubbles: true }));
  }

  // What is in the way is said where it was chosen, with the way out.
  function explain(root, option) {
    activate(root, option);
    const why = root.querySelector("[data-picker-why]");
    const link = why.querySelector("a");
    why.querySelector("p").textContent = option.dataset.blocked;
    link.hidden = !option.dataset.way;
    if (option.dataset.way) {
      link.href = option.dataset.way;
      link.querySelector("span").textContent = option.dataset.wayLabel;
    }
    why.hidden = false;
    option.scrollIntoView({ block: "nearest" });
  }

  function close(root) {
    if (!isOpen(root)) return;
    panelOf(root).hidePopover();
    opener(root).focus({ preventScroll: true });
  }

  document.addEventListener("click", (event) => {
    const root = rootOf(event.target);
    if (!root) return;
    const option = event.target.closest('[role="option"]');
    if (event.target.closest("[data-picker-open]")) isOpen(root) || "closing" in root.dataset ? close(root) : open(root);
    else if (option) choose(root, option);
    else if (event.target.closest("[data-picker-close]")) close(root);
    else if (event.target.closest("[data-picker-why] a")) panelOf(root).hidePopover();
  });

  // A press on the button closes the popover before its click arrives, which must not open it again.
  document.addEventListener("pointerdown", (event) => {
    const root = event.target.closest?.("[data-picker-open]") && rootOf(event.target);
    if (root && isOpen(root)) {
      root.dataset.closing = "";
      addEventListener("click", () => delete root.dataset.closing, { once: true });
    }
  }, true);

  document.addEventListener("toggle", (event) => {
    const root = event.target.matches?.(".picker-panel") && rootOf(event.target);
    if (root) opener(root).setAttribute("aria-expanded", String(event.newState === "open"));
  }, true);

  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-picker-search]")) filter(rootOf(event.target));
  });

  document.addEventListener("pointermove", (event) => {
    const option = event.target.closest?.(".picker-option");
    if (option && !option.hasAttribute("data-active")) {
      const root = rootOf(option);
      if (root.querySelector("[data-picker-why]").hidden) activate(root, option);
    }
  });

  document.addEventListener("keydown", (event) => {
    const root = rootOf(event.target);
    if (!root) return;
    if (event.target === opener(root)) {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") (event.preventDefault(), open(root));
      return;
    }
    if (event.target !== field(root)) return;
    const options = shown(root);
    const at = options.indexOf(active(root));
    const typed = event.target.matches("[data-picker-search]");
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: Math.min(at + 8, options.length - 1), PageUp: Math.max(at - 8, 0), ...(typed ? {} : { Home: 0, End: options.length - 1 }) }[event.key];
    if (to !== undefined && options.length) {
      event.preventDefault();
      activate(root, options[(to + options.length) % options.length]);
    } else if (event.key === "Enter" || (event.key === " " && !typed)) {
      event.preventDefault();
      if (active(root)) choose(root, active(root));
    } else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      close(root);
    } else if (!typed && event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const next = [...options.slice(at + 1), ...options.slice(0, at + 1)].find((one) => one.dataset.words.startsWith(event.key.toLowerCase()));
      if (next) activate(root, next);
    }
  });

  // What could not be sent is not chosen: the page says so and shows what stands.
  document.addEventListener("htmx:error", (event) => {
    const form = event.target.closest?.("[data-failed]");
    if (!form) return;
    form.reset();
    form.querySelectorAll("[data-picker]").forEach((root) => {
      const value = root.querySelector("[data-picker-value]").value;
      root.querySelectorAll('[role="option"]').forEach((one) => {
        one.setAttribute("aria-selected", String(one.dataset.value === value));
        if (one.dataset.value === value) root.querySelector("[data-picker-shown]").textContent = one.querySelector("[data-name]").textContent;
      });
    });
    document.getElementById("toaster").toast({ category: "error", description: form.dataset.failed, duration: -1 });
  });

  // Who goes on by Tab has left it.
  document.addEventListener("focusout", (event) => {
    const root = rootOf(event.target);
    if (root && event.relatedTarget && !panelOf(root).contains(event.relatedTarget) && isOpen(root)) panelOf(root).hidePopover();
  });
  addEventListener("resize", () => document.querySelectorAll("[data-picker]").forEach((root) => isOpen(root) && place(root)));
})();
