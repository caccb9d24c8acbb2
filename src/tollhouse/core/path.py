"""Where a browser may be sent on after something is done: only to paths of this installation."""

_LENGTH = 1000  # a cookie has room for it


def local_path(wanted: str | None, otherwise: str = "/") -> str:
    """`wanted` when it is a path here, else `otherwise`. Browsers take `//host`, `/\\host` and `/<tab>/host` for other
    hosts, so none of these is a path."""
    if wanted is None or not wanted.startswith("/") or wanted.startswith("//") or len(wanted) > _LENGTH:
        return otherwise
    return (
        wanted
        if wanted.isascii() and all("!" <= character <= "~" and character != "\\" for character in wanted)
        else otherwise
    )
