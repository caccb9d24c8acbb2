"""The operators' area: for superadmins only, apart from everybody else's pages. For all others it is not there.

What is shown and done here are the flows of /api/operator, with the same rules and the same rows of the audit log."""

from tollhouse.web.operator import (
    audit,
    credit,
    identity_provider,
    impersonation,
    organization,
    outbox,
    overview,
    people,
    privacy,
)

PAGES = (
    *overview.PAGES,
    *organization.PAGES,
    *credit.PAGES,
    *people.PAGES,
    *impersonation.PAGES,
    *identity_provider.PAGES,
    *audit.PAGES,
    *outbox.PAGES,
    *privacy.PAGES,
)
