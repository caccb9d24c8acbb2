// What pages do beyond basecoat and htmx. Everything hangs on data attributes, by delegation: what arrives later works.
(() => {
  const token = () => document.querySelector('meta[name="csrf-token"]')?.content ?? "";

  const actions = {
    "theme": () => {
      const dark = document.documentElement.classList.toggle("dark");
      localStorage.setItem("theme", dark ? "dark" : "light");
    },
    "sidebar": () => {
      const sidebar = document.querySelector(".sidebar");
      sidebar.toggle();
      if (sidebar.getAttribute("aria-hidden") === "false") sidebar.querySelector("a, button")?.focus();
    },
    "close": (button) => {
      const toast = button.closest(".toast");
      if (toast) toast.close();
      else button.closest("[data-closable]")?.remove();
    },
    "copy": async (button) => {
      const { copies } = button.dataset;
      const source = copies ? document.getElementById(copies) : button.parentElement.querySelector("code");
      const text = source.textContent.trim();
      await copy(text);
      button.dataset.copied = "";
      setTimeout(() => delete button.dataset.copied, 2000);
    },
    "reveal": (button) => {
      const input = document.getElementById(button.getAttribute("aria-controls"));
      const shown = input.type === "text";
      input.type = shown ? "password" : "text";
      button.setAttribute("aria-pressed", String(!shown));
    },
  };

  // The clipboard of browsers is there over TLS and on this machine only.
  async function copy(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "sr-only";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (button) actions[button.dataset.action]?.(button);
  });

  // Menus: the focus moves from entry to entry, so that readers aloud follow.
  const menuOf = (node) => node.closest(".dropdown-menu");
  const entriesOf = (menu) => [...menu.querySelectorAll('[role="menuitem"]:not(:disabled, [aria-disabled="true"])')];

  function setOpen(menu, open) {
    const [button, box] = [menu.querySelector(":scope > button"), menu.querySelector(":scope > [data-popover]")];
    button.setAttribute("aria-expanded", String(open));
    box.setAttribute("aria-hidden", String(!open));
    if (open) place(box, button.getBoundingClientRect());
  }

  // On the window and not in what is around it: a table that scrolls would cut it off.
  function place(box, trigger) {
    const gap = 4;
    const below = box.dataset.side !== "top" && trigger.bottom + gap + box.offsetHeight <= innerHeight;
    const left = box.dataset.align === "end" ? trigger.right - box.offsetWidth : trigger.left;
    Object.assign(box.style, {
      position: "fixed",
      inset: "auto",
      margin: "0",
      top: `${below ? trigger.bottom + gap : Math.max(gap, trigger.top - gap - box.offsetHeight)}px`,
      left: `${Math.max(gap, Math.min(left, innerWidth - box.offsetWidth - gap))}px`,
      minWidth: `${trigger.width}px`,
    });
  }
  const isOpen = (menu) => menu.querySelector(":scope > button").getAttribute("aria-expanded") === "true";

  function openAt(menu, index) {
    if (!isOpen(menu)) setOpen(menu, true);
    entriesOf(menu).at(index)?.focus({ preventScroll: true });
  }

  document.addEventListener("click", (event) => {
    const chosen = menuOf(event.target);
    document.querySelectorAll(".dropdown-menu").forEach((menu) => {
      if (menu !== chosen && isOpen(menu)) setOpen(menu, false);
    });
    if (!chosen) return;
    if (event.target.closest("[aria-haspopup]")) {
      if (isOpen(chosen)) setOpen(chosen, false);
      else if (event.detail === 0) openAt(chosen, 0); // by keyboard
      else setOpen(chosen, true);
    } else if (event.target.closest('[role="menuitem"]')) setOpen(chosen, false);
  });

  const closeAll = () => document.querySelectorAll(".dropdown-menu").forEach((menu) => isOpen(menu) && setOpen(menu, false));
  addEventListener("resize", closeAll);
  addEventListener("scroll", closeAll, { capture: true, passive: true });

  document.addEventListener("keydown", (event) => {
    const menu = event.target.closest?.(".dropdown-menu");
    if (!menu) return;
    const entries = entriesOf(menu);
    const at = entries.indexOf(document.activeElement);
    const to = { ArrowDown: (at + 1) % entries.length, ArrowUp: at > 0 ? at - 1 : -1, Home: 0, End: -1 }[event.key];
    if (to !== undefined && (at >= 0 || event.key.startsWith("Arrow"))) {
      event.preventDefault();
      openAt(menu, to);
    } else if (event.key === "Escape" && isOpen(menu)) {
      event.stopImmediatePropagation();
      setOpen(menu, false);
      menu.querySelector(":scope > button").focus();
    } else if (event.key === "Tab" && at >= 0) setOpen(menu, false);
  });

  document.addEventListener("keydown", (event) => {
    const sidebar = document.querySelector(".sidebar");
    if (event.key !== "Escape" || !sidebar || innerWidth >= 768 || sidebar.getAttribute("aria-hidden") === "true") return;
    sidebar.close();
    document.querySelector('[data-action="sidebar"]')?.focus();
  });

  // A form is sent once, however often its button is pressed.
  document.addEventListener("submit", (event) => {
    if (event.target.matches("form:not([hx-post], [hx-get])")) {
      if (event.target.getAttribute("aria-busy") === "true") event.preventDefault();
      event.target.setAttribute("aria-busy", "true");
    }
  });
  addEventListener("pageshow", () => {
    document.querySelectorAll('form[aria-busy="true"]').forEach((form) => form.removeAttribute("aria-busy"));
  });

  // Choices that take effect at once: a select of which page, a filter.
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
  });

  document.addEventListener("htmx:config:request", (event) => {
    event.detail.ctx.request.headers["X-CSRF-Token"] = token();
  });

  // Where the browser cannot open dialogs by itself yet.
  if (!("command" in HTMLButtonElement.prototype)) {
    document.addEventListener("click", (event) => {
      const button = event.target.closest("[commandfor]");
      const dialog = button && document.getElementById(button.getAttribute("commandfor"));
      if (!dialog) return;
      if (button.getAttribute("command") === "show-modal") dialog.showModal();
      if (button.getAttribute("command") === "close") dialog.close();
    });
  }
})();
