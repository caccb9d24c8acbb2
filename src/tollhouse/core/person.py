"""What a person may be called."""

from tollhouse.core.errors import BadRequest

NAME_MAX = 200


def name_of(text: str) -> str:
    """The name on one line, without what cannot be seen; '' for who gives none. BadRequest when it is too long."""
    name = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if len(name) > NAME_MAX:
        raise BadRequest(f"A name has at most {NAME_MAX} characters. Give a shorter one.", "name")
    return name
