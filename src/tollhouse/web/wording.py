"""What pages call things for which code and database have short names, in the language of the request."""

from collections.abc import Mapping

from tollhouse.web.language import N_, _

_WORDS: Mapping[str, str] = {
    # roles
    "owner": N_("Owner"),
    "admin": N_("Admin"),
    "member": N_("Member"),
    # kinds of organisations, modes of keys, who did something
    "platform": N_("Platform"),
    "personal": N_("Personal"),
    "team": N_("Team"),
    "test": N_("Test"),
    "live": N_("Live"),
    "person": N_("Person"),
    "key": N_("Key"),
    "job": N_("Job"),
    "system": N_("System"),
    # sources of grants
    "plan": N_("Plan"),
    "plan_change": N_("Change of plan"),
    "welcome": N_("Welcome"),
    "promo": N_("Promo"),
    "topup": N_("Top-up"),
    "adjustment": N_("Adjustment"),
    # business types
    "general": N_("General"),
    "agency": N_("Agency and marketing"),
    "construction": N_("Construction and trades"),
    "consulting": N_("Consulting"),
    "education": N_("Education"),
    "finance": N_("Finance and insurance"),
    "government": N_("Government"),
    "healthcare": N_("Healthcare"),
    "hospitality": N_("Hospitality and tourism"),
    "legal": N_("Legal"),
    "logistics": N_("Logistics and transport"),
    "manufacturing": N_("Manufacturing"),
    "media": N_("Media and entertainment"),
    "nonprofit": N_("Non-profit"),
    "professional_services": N_("Professional services"),
    "real_estate": N_("Real estate"),
    "retail": N_("Retail and e-commerce"),
    "software": N_("Software and technology"),
}
_WITHIN: Mapping[str, str] = {
    "owner": N_("owner"),
    "admin": N_("admin"),
    "member": N_("member"),
    "password": N_("password"),
    "link": N_("link in mail"),
    "oidc": N_("account elsewhere"),
    "impersonation": N_("an operator acting as you"),
    "an unknown device": N_("an unknown device"),
}


def word(code: str) -> str:
    """A name as it stands by itself: owner -> Owner. One that is not known: as it is, with a capital."""
    known = _WORDS.get(code)
    return _(known) if known is not None else code.replace("_", " ").capitalize()


def within(code: str) -> str:
    """A name as it stands in a sentence: owner -> owner. One that is not known: as it is."""
    known = _WITHIN.get(code)
    return _(known) if known is not None else code
