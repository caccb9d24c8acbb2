"""Does a request that brings a cookie come from our own pages? Browsers send the cookie along whoever had them ask."""

READS = ("GET", "HEAD")


def from_us(method: str, fetch_site: str | None, origin: str | None, ours: str) -> bool:
    """Whether our own pages sent it, as far as the browser tells: by `Sec-Fetch-Site`, where it knows that header, else
    by `Origin`, which must be `ours` then. Whatever changes something must say so; what only reads may also say
    nothing, or come from the address bar or a neighbour of the same site, which cannot see the answer."""
    reads = method in READS
    if fetch_site is not None:
        return fetch_site == "same-origin" or (reads and fetch_site in ("none", "same-site"))
    if origin is not None:
        return origin == ours
    return reads
