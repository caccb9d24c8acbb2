"""An installation under its operator's own name, hue and mark, and colours that can be read in every hue."""

from __future__ import annotations

import json
from typing import Any

from tests.web.browser import Window, assert_accessible
from tests.web.serving import serving
from tests.web.team import seen
from tollhouse.flows.link import FORGOTTEN_PATH
from tollhouse.store.mail import latest

MARK = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="14" fill="#7a3"/></svg>'
BRAND: dict[str, Any] = {"name": "Mill & Sons", "hue": 320, "mark": MARK}
# What is written on what, with the contrast that WCAG asks for.
PAIRS = {
    ("primary-foreground", "primary"): 4.5, ("primary-foreground", "primary-hover"): 4.5,
    ("primary", "background"): 4.5, ("primary", "card"): 4.5, ("primary", "popover"): 4.5,
    ("secondary-foreground", "secondary"): 4.5, ("muted-foreground", "secondary"): 4.5,
    ("muted-foreground", "accent"): 4.5, ("accent-foreground", "accent"): 4.5, ("foreground", "accent"): 4.5,
    ("sidebar-foreground", "sidebar"): 4.5, ("sidebar-muted", "sidebar"): 4.5,
    ("sidebar-muted", "sidebar-accent"): 4.5, ("sidebar-accent-foreground", "sidebar-accent"): 4.5,
    ("ring", "background"): 3.0, ("sidebar-ring", "sidebar"): 3.0, ("chart-1", "card"): 3.0,
}  # fmt: skip
# The contrast of each pair, as the browser paints it, for each hue and theme.
MEASURE = """pairs => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.setProperty("transition", "none", "important");
  const light = (name) => {
    probe.style.color = `var(--${name})`;
    context.fillStyle = getComputedStyle(probe).color;
    context.fillRect(0, 0, 1, 1);
    const parts = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const found = [];
  for (const dark of [false, true]) {
    document.documentElement.classList.toggle("dark", dark);
    for (let hue = 0; hue < 360; hue += 10) {
      document.documentElement.style.setProperty("--brand-hue", hue);
      for (const [front, back] of pairs) {
        const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
        found.push([hue, dark, front, back, (a + 0.05) / (b + 0.05)]);
      }
    }
  }
  return found;
}"""


async def test_pages_and_mail_say_the_name_and_wear_the_hue_and_the_mark(database_url: str, window: Window) -> None:
    async with serving(database_url, **BRAND) as place:
        visitor = place.visitor()
        page = await visitor.get("/")
        assert page.soup.title is not None and "Mill & Sons" in page.soup.title.text
        assert "Tollhouse" not in seen(page)
        (style,) = [one for one in page.soup.select('link[rel="stylesheet"]') if "/brand-" in str(one["href"])]
        served = await visitor.get(str(style["href"]))
        assert (served.status, served.text) == (200, ":root{--brand-hue:320}\n")
        assert served.headers["cache-control"] == "public, max-age=31536000, immutable"
        icon = page.soup.select_one('link[rel="icon"]')
        assert icon is not None
        mark = await visitor.get(str(icon["href"]))
        assert (mark.text, mark.headers["content-type"]) == (MARK.decode(), "image/svg+xml")
        assert "default-src 'none'" in mark.headers["content-security-policy"]
        assert [str(one["src"]) for one in page.soup.select("img.mark")] == [str(icon["href"])]
        await place.person("ada@example.com")
        page = await visitor.get(FORGOTTEN_PATH)
        await visitor.post(FORGOTTEN_PATH, {"email": "ada@example.com", "csrf": page.token})
        async with place.db.operator() as tx:
            (letter,) = await latest(tx, 1)
        assert letter.subject == "Choose another password at Mill & Sons"
        seen_in = await window(place.url + "/sign-in")
        await assert_accessible(seen_in)
        painted = await seen_in.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--brand-hue')")
        assert painted.strip() == "320"
        assert await seen_in.evaluate("document.querySelector('img.mark').naturalWidth > 0")


async def test_without_a_brand_nothing_of_one_is_served(database_url: str) -> None:
    async with serving(database_url) as place:
        page = await place.visitor().get("/")
        assert "brand-" not in json.dumps([str(one) for one in page.soup.select("link, img")])
        assert page.soup.select_one("svg.mark") is not None
        assert (await place.visitor().get("/static/brand.css")).status == 404


async def test_what_is_written_can_be_read_in_every_hue_in_both_themes(database_url: str, window: Window) -> None:
    async with serving(database_url) as place:
        page = await window(place.url + "/design/bare")
        found = await page.evaluate(MEASURE, [list(pair) for pair in PAIRS])
        assert len(found) == 2 * 36 * len(PAIRS)
        assert [one for one in found if one[4] < PAIRS[one[2], one[3]]] == []
