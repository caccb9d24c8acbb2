"""The files that make an installation look like its operator's: served beside our own."""

from collections.abc import Mapping

from tollhouse.flows.site import Site

STYLE, MARK = "brand.css", "brand.svg"


def files(site: Site) -> Mapping[str, bytes]:
    """What stands in place of ours, by the name that templates use; empty where nothing was chosen."""
    found: dict[str, bytes] = {}
    if site.hue is not None:
        found[STYLE] = b":root{--brand-hue:%d}\n" % site.hue
    if site.mark:
        found[MARK] = site.mark
    return found
