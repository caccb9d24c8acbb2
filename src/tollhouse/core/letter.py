"""What is written to people about how they sign in and what their organisation runs out of: plain text, each with one
thing to do."""

from dataclasses import dataclass

_NOT_YOU = "If this was not you, do nothing: then nothing happens."
_TELL = "If this was not you, choose another password at once and end all sessions: {link}"


@dataclass(frozen=True, slots=True)
class Letter:
    """`kind` is a word for whoever looks into the outbox."""

    kind: str
    subject: str
    body: str


def verify_email(site: str, link: str) -> Letter:
    body = f"""Somebody, probably you, signed up at {site} with this address.

To confirm that it is yours, open this link and enter the password that you chose:

{link}

The link works once, within a day. {_NOT_YOU}"""
    return Letter("verify_email", f"Confirm your address at {site}", body)


def finish_sign_up(site: str, link: str) -> Letter:
    body = f"""Somebody, probably you, signed up at {site} with this address. It was not confirmed yet.

To confirm it and to choose a password, open this link:

{link}

The link works once, within an hour. {_NOT_YOU}"""
    return Letter("finish_sign_up", f"Finish signing up at {site}", body)


def signed_up_again(site: str, sign_in: str, reset: str) -> Letter:
    body = f"""Somebody, probably you, tried to sign up at {site} with this address. You have an account there already.

Sign in: {sign_in}
If you do not know your password any more: {reset}

{_NOT_YOU}"""
    return Letter("signed_up_again", f"You have an account at {site}", body)


def sign_in(site: str, link: str) -> Letter:
    body = f"""To sign in at {site}, open this link:

{link}

The link works once, within 15 minutes. {_NOT_YOU}"""
    return Letter("sign_in", f"Sign in at {site}", body)


def reset_password(site: str, link: str) -> Letter:
    body = f"""To choose another password at {site}, open this link:

{link}

The link works once, within an hour. {_NOT_YOU}"""
    return Letter("reset_password", f"Choose another password at {site}", body)


def password_changed(site: str, reset: str) -> Letter:
    body = f"""Your password at {site} was changed, and other sessions of yours were ended.

{_TELL.format(link=reset)}"""
    return Letter("password_changed", f"Your password at {site} was changed", body)


def change_email(site: str, link: str) -> Letter:
    body = f"""You want to use this address at {site} from now on. To confirm that it is yours, open this link
where you are signed in:

{link}

The link works once, within an hour. {_NOT_YOU}"""
    return Letter("change_email", f"Confirm your new address at {site}", body)


def email_taken(site: str) -> Letter:
    body = f"""Somebody wants to use this address for their account at {site}. You have an account there with it
already, so nothing was changed.

If it was you: sign in with this address, or change that account's address first."""
    return Letter("email_taken", f"Your address at {site}", body)


def email_changed(site: str, masked: str) -> Letter:
    body = f"""The address of your account at {site} was changed to {masked}. Mail goes there from now on.

If this was not you, ask the operator of {site} at once."""
    return Letter("email_changed", f"Your address at {site} was changed", body)


def second_factor_added(site: str, reset: str) -> Letter:
    body = f"""Codes of an app are asked for from now on when you sign in at {site}.

{_TELL.format(link=reset)}"""
    return Letter("second_factor_added", f"A second factor was added at {site}", body)


def second_factor_removed(site: str, reset: str) -> Letter:
    body = f"""Codes of an app are asked for no more when you sign in at {site}.

{_TELL.format(link=reset)}"""
    return Letter("second_factor_removed", f"Your second factor at {site} was removed", body)


def recovery_code_used(site: str, left: int, reset: str) -> Letter:
    body = f"""A recovery code was used to sign in at {site}. {left} are left: make new ones before they are used up.

{_TELL.format(link=reset)}"""
    return Letter("recovery_code_used", f"A recovery code was used at {site}", body)


def identity_linked(site: str, provider: str, reset: str) -> Letter:
    body = f"""Your account at {site} can now also be signed in to with {provider}.

{_TELL.format(link=reset)}"""
    return Letter("identity_linked", f"{provider} was linked at {site}", body)


def credits_low(site: str, organization: str, left: str, credits: str, settings: str) -> Letter:
    body = f"""The credits of {organization} at {site} run low: {left} are left, less than a fifth of the month's.

What they went for, and when new ones come: {credits}

You get this as an owner or admin. To have no such mail: {settings}"""
    return Letter("credits_low", f"{organization}: credits run low", body)


def credits_depleted(site: str, organization: str, left: str, credits: str, settings: str) -> Letter:
    body = f"""The credits of {organization} at {site} are as good as used up: {left} are left. Calls that cost more are
refused until new ones come.

What can be done, and when new ones come: {credits}

You get this as an owner or admin. To have no such mail: {settings}"""
    return Letter("credits_depleted", f"{organization}: no credits left", body)
