"""How people sign in: their password, second factor, sessions and accounts elsewhere."""

from dataclasses import replace
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from tollhouse.core.errors import TollhouseError
from tollhouse.core.session import check_own, check_proved
from tollhouse.flows import password, profile, second_factor, session, step_up
from tollhouse.flows.second_factor import Added
from tollhouse.web import forms
from tollhouse.web.forms import Field, Form
from tollhouse.web.language import _
from tollhouse.web.route import SIGNED_IN, page
from tollhouse.web.session import Anchor, begin
from tollhouse.web.sign_in import rotated
from tollhouse.web.visit import Visit

HERE = "/settings/security"
FACTOR = "/settings/security/code"
_PASSWORD = (Field("password", secret=True),)
_CODE = (Field("code", most=40),)


async def index(visit: Visit) -> Response:
    db, signed = visit.state.db, visit.who
    check_own(signed)
    linked = await profile.linked(db, signed)
    known = {one.provider_id for one in linked}
    return visit.page(
        "security/index.html",
        ways=await step_up.ways(db, signed),
        factor=await second_factor.standing(db, signed),
        devices=await session.listed(db, signed, visit.now),
        linked=linked,
        offered=[one for one in await visit.state.open_id.offered() if one.id not in known],
    )


# ------------------------------------------------------------------------------------------------------------- password


async def ask_password(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    ways = await step_up.ways(visit.state.db, visit.who)
    return visit.page("security/password.html", form=forms.blank(_PASSWORD), has_one=ways.password)


async def change_password(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    form = visit.form(*_PASSWORD)
    has_one = (await step_up.ways(visit.state.db, visit.who)).password
    if not form.ok:
        return visit.again("security/password.html", form, has_one=has_one)
    try:
        cookie = await password.change(visit.state.db, visit.state.site, visit.order, visit.who, form["password"])
    except TollhouseError as error:
        return visit.again("security/password.html", form, error, has_one=has_one)
    return rotated(visit, cookie, HERE, _("Your password is changed, and your other sessions have ended."))


# -------------------------------------------------------------------------------------------------------- second factor


async def show_factor(visit: Visit) -> Response:
    """What an app needs, when adding one has begun."""
    check_proved(visit.who, visit.now)
    return await _factor(visit, forms.blank(_CODE))


async def start_factor(visit: Visit) -> Response:
    visit.form()
    await second_factor.start(visit.state.db, visit.state.site, visit.order, visit.who)
    return visit.go(FACTOR)


async def confirm_factor(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    form = visit.form(*_CODE)
    if not form.ok:
        return await _factor(visit, form)
    try:
        added = await second_factor.confirm(visit.state.db, visit.state.site, visit.order, visit.who, form["code"])
    except TollhouseError as error:
        return await _factor(visit, form, error)
    return _shown_once(visit, added)


async def ask_removal(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    return visit.page("security/remove_code.html", form=forms.blank(_CODE))


async def remove_factor(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    form = visit.form(*_CODE)
    if not form.ok:
        return visit.again("security/remove_code.html", form)
    try:
        cookie = await second_factor.remove(visit.state.db, visit.state.site, visit.order, visit.who, form["code"])
    except TollhouseError as error:
        return visit.again("security/remove_code.html", form, error)
    return rotated(visit, cookie, HERE, _("Codes are asked for no more."))


async def ask_renewal(visit: Visit) -> Response:
    check_proved(visit.who, visit.now)
    return visit.page("security/renew_codes.html")


async def renew_codes(visit: Visit) -> Response:
    visit.form()
    codes = await second_factor.renew_recovery_codes(visit.state.db, visit.state.site, visit.order, visit.who)
    return visit.page("security/recovery_codes.html", codes=codes, renewed=True)


async def _factor(visit: Visit, form: Form, error: TollhouseError | None = None) -> Response:
    db, site = visit.state.db, visit.state.site
    waiting = await second_factor.waiting(db, site, visit.order, visit.who)
    has_one = (await second_factor.standing(db, visit.who)).since is not None
    # made by us, of an address that holds nothing but letters, digits and signs that are escaped
    picture = Markup(waiting.qr_code) if waiting else None  # noqa: S704
    context: dict[str, Any] = {"waiting": waiting, "picture": picture, "has_one": has_one}
    if form.sent:
        return visit.again("security/code.html", form, error, **context)
    return visit.page("security/code.html", form=form, **context)


def _shown_once(visit: Visit, added: Added) -> Response:
    """In answer to the form itself: there is no address under which the codes could be seen again. The forms of this
    page are for the new cookie."""
    signed = replace(visit.who, token=added.cookie)
    renewed = replace(visit, signed=signed, anchor=Anchor(visit.request, visit.state.site, signed))
    response = renewed.page("security/recovery_codes.html", codes=added.recovery_codes, renewed=False)
    begin(response, visit.state.site, added.cookie)
    return response


# ---------------------------------------------------------------------------------------------- sessions and identities


async def end_session(visit: Visit) -> Response:
    visit.form()
    session_id = visit.id("session_id")
    await session.revoke(visit.state.db, visit.order, visit.who, session_id)
    return visit.go(HERE, _("The session has ended."))


async def end_others(visit: Visit) -> Response:
    visit.form()
    ended = await session.revoke_others(visit.state.db, visit.order, visit.who)
    return visit.go(HERE, _("Other sessions that have ended: %(ended)s.", ended=ended))


async def unlink(visit: Visit) -> Response:
    form = visit.form(Field("subject", most=1000))
    provider_id = visit.id("provider_id")
    await profile.unlink_identity(visit.state.db, visit.order, visit.who, provider_id, form["subject"])
    return visit.go(HERE, _("The account is linked no more."))


PAGES = (
    page(HERE, index, needs=SIGNED_IN),
    page("/settings/security/password", ask_password, needs=SIGNED_IN),
    page("/settings/security/password", change_password, ("POST",), needs=SIGNED_IN),
    page(FACTOR, show_factor, needs=SIGNED_IN),
    page(FACTOR, start_factor, ("POST",), needs=SIGNED_IN),
    page("/settings/security/code/confirm", show_factor, needs=SIGNED_IN),
    page("/settings/security/code/confirm", confirm_factor, ("POST",), needs=SIGNED_IN),
    page("/settings/security/code/remove", ask_removal, needs=SIGNED_IN),
    page("/settings/security/code/remove", remove_factor, ("POST",), needs=SIGNED_IN),
    page("/settings/security/recovery-codes", ask_renewal, needs=SIGNED_IN),
    page("/settings/security/recovery-codes", renew_codes, ("POST",), needs=SIGNED_IN),
    page("/settings/security/sessions/end-others", end_others, ("POST",), needs=SIGNED_IN),
    page("/settings/security/sessions/{session_id:uuid}/end", end_session, ("POST",), needs=SIGNED_IN),
    page("/settings/security/identities/{provider_id:uuid}/remove", unlink, ("POST",), needs=SIGNED_IN),
)
