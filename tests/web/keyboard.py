"""Whether the keyboard gets everywhere on a page, and shows where it is."""

from __future__ import annotations

from playwright.async_api import Page

# Everything that Tab should come to, and what each looks like before it does. A group of radio buttons is one stop, and
# what scrolls is one only where nothing in it is.
_LOOK = """
() => {
  const wanted = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]";
  const there = (one) => one.checkVisibility({ checkVisibilityCSS: true }) && !one.closest("[inert]")
    && !one.disabled && one.tabIndex >= 0 && !(one.type === "radio" && !one.checked);
  const look = (one) => {
    const parts = [];
    for (let at = one, n = 0; at && n < 3; at = at.parentElement, n++) {
      for (const animation of at.getAnimations()) animation.finish();
      const style = getComputedStyle(at);
      parts.push(style.outlineStyle, style.outlineWidth, style.outlineColor, style.boxShadow, style.borderColor,
                 style.backgroundColor, style.color, style.textDecorationLine);
    }
    return parts.join(" ");
  };
  document.activeElement?.blur();
  const before = new Map([...document.querySelectorAll(wanted)].filter(there).map((one) => [one, look(one)]));
  const reached = new Set(), unseen = new Set();
  const came = (event) => {
    reached.add(event.target);
    if (before.has(event.target) && look(event.target) === before.get(event.target)) unseen.add(event.target);
  };
  document.addEventListener("focusin", came);
  const name = (one) => `<${one.localName} id=${one.id} class=${one.className.toString().slice(0, 40)}> `
    + (one.getAttribute("aria-label") || one.innerText || one.name || "").trim().slice(0, 40);
  window.__keyboard = {
    missed: () => [...before.keys()].filter((one) => !reached.has(one) && there(one)).map(name),
    unseen: () => [...unseen].map(name),
  };
  return before.size;
}
"""


async def lost(page: Page) -> list[str]:
    """What Tab does not come to, and what does not show that it has the focus."""
    count = await page.evaluate(_LOOK)
    missed: list[str] = []
    for presses in (count + 2, count + 10, 2 * count):  # fields of dates have several stops
        for _ in range(presses):
            await page.keyboard.press("Tab")
        missed = await page.evaluate("__keyboard.missed()")
        if not missed:
            break
    unseen = await page.evaluate("__keyboard.unseen()")
    return [f"Tab does not reach {one}" for one in missed] + [f"no focus is seen at {one}" for one in unseen]
