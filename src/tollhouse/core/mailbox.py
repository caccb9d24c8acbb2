"""E-mail addresses in their one form, by which people are found."""

from email_validator import EmailNotValidError, validate_email

from tollhouse.core.errors import BadRequest


def normalised(text: str) -> str:
    """The address in lower case, its domain in ASCII, as it is stored and compared. BadRequest, naming the field
    `email`, for what is none. Nothing is asked of the network."""
    try:
        found = validate_email(text.strip(), check_deliverability=False, allow_smtputf8=False, strict=True)
    except EmailNotValidError as error:
        raise BadRequest("This is not an e-mail address. It looks like ada@example.com.", "email") from error
    address = found.ascii_email
    if address is None or len(address) > 254:
        raise BadRequest("This e-mail address is too long: give another one.", "email")
    return address.lower()
