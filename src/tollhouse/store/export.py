"""What is known of somebody, to be given to them: each part a query. Digests, secrets and what opens something are left
out; what is counted stands in its unit."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg.rows import dict_row

from tollhouse.core.privacy import Subject
from tollhouse.store.db import OperatorTx

ROWS_AT_ONCE = 500
# What one query may take: most scan the calls of everybody, and only read.
PATIENCE = "15min"


@dataclass(frozen=True, slots=True)
class Part:
    """A file of an export. The query may name %(subject)s, %(within)s (the organisation that it is limited to, or
    NULL), %(own)s (the organisations that are theirs alone) and %(actor)s."""

    name: str
    holds: str
    sql: LiteralString


# Rows of a call: `r` is a table with organization_id and subject_id.
_THEIRS: LiteralString = """(r.organization_id = ANY(%(own)s) OR (r.subject_id = %(subject)s
    AND (%(within)s::uuid IS NULL OR r.organization_id = %(within)s)))"""

_ACCOUNT: Sequence[Part] = (
    Part(
        "profile",
        "the account: address, name, and how it is signed in to",
        """SELECT p.id, p.email, p.name, p.language, p.superadmin, p.created_at, p.email_verified_at, p.suspended_at,
                  (SELECT w.changed_at FROM password w WHERE w.person_id = p.id) AS password_changed_at,
                  (SELECT t.confirmed_at FROM totp t WHERE t.person_id = p.id) AS second_factor_confirmed_at,
                  (SELECT count(*) FROM recovery_code c WHERE c.person_id = p.id AND c.used_at IS NULL)
                      AS recovery_codes_left
           FROM person p WHERE p.id = %(subject)s""",
    ),
    Part(
        "sessions",
        "where and when it was signed in",
        """SELECT s.id, s.organization_id, s.method, s.created_at, s.seen_at, s.expires_at, s.revoked_at,
                  s.second_factor, s.address, s.user_agent
           FROM session s WHERE s.person_id = %(subject)s AND s.impersonator_id IS NULL ORDER BY s.created_at""",
    ),
    Part(
        "linked_identities",
        "accounts elsewhere that sign in here",
        """SELECT i.name AS provider, i.issuer, l.subject, l.email, l.linked_at
           FROM linked_identity l JOIN identity_provider i ON i.id = l.provider_id
           WHERE l.person_id = %(subject)s ORDER BY l.linked_at""",
    ),
    Part(
        "links",
        "links that were sent by mail, to which address and what for",
        """SELECT t.purpose, t.email, t.created_at, t.expires_at, t.used_at
           FROM one_time_token t WHERE t.person_id = %(subject)s ORDER BY t.created_at""",
    ),
    Part(
        "mail",
        "mail that was sent to the account's address in the last 30 days; links in it are left out",
        """SELECT m.kind, m.subject, m.created_at, m.sent_at
           FROM mail m JOIN person p ON lower(m.recipient) = p.email
           WHERE p.id = %(subject)s ORDER BY m.created_at""",
    ),
    Part(
        "invitations",
        "invitations to organisations",
        """SELECT i.organization_id, o.name AS organization, i.role, i.created_at, i.expires_at, i.accepted_at,
                  i.revoked_at
           FROM invitation i JOIN person p ON p.email = i.email JOIN organization o ON o.id = i.organization_id
           WHERE p.id = %(subject)s ORDER BY i.created_at""",
    ),
    Part(
        "own_organizations",
        "the organisations that are the account's alone, and what is set in them",
        """SELECT o.id, o.name, o.business_type, o.plan_id, o.created_at, o.cache_ttl_s, o.stores_content,
                  o.retention_days, o.chat_retention_days
           FROM organization o WHERE o.id = ANY(%(own)s)""",
    ),
    Part(
        "own_end_users",
        "end users of the account's own organisations, by the ids that it gave them",
        """SELECT u.organization_id, u.id, u.external_id, u.created_at
           FROM end_user u WHERE u.organization_id = ANY(%(own)s) ORDER BY u.created_at, u.id""",
    ),
    Part(
        "own_connections",
        "connections to providers of the account's own organisations; their keys are left out",
        """SELECT c.organization_id, c.id, c.provider_id, c.name, c.base_url, c.key_hint, c.enabled, c.created_at
           FROM connection c WHERE c.organization_id = ANY(%(own)s) ORDER BY c.created_at, c.id""",
    ),
    Part(
        "conversations",
        "chats, which no organisation is given",
        """SELECT c.organization_id, c.id, c.title, c.assistant_id, c.model_choice, c.pinned_at, c.created_at,
                  c.updated_at
           FROM conversation c WHERE c.person_id = %(subject)s ORDER BY c.organization_id, c.id""",
    ),
    Part(
        "messages",
        "what was said in the chats, replaced messages too, and what each answer took",
        """SELECT m.organization_id, m.conversation_id, m.id, m.author, m.state, m.content, m.attachments, m.citations,
                  m.error, m.request_id, m.model_id, m.reason, m.trial, m.input_tokens, m.output_tokens,
                  m.charged_micros, m.rating, m.rating_note, m.created_at, m.replaced_at
           FROM message m WHERE m.person_id = %(subject)s ORDER BY m.organization_id, m.conversation_id, m.id""",
    ),
    Part(
        "about",
        "what assistants are told of the person",
        """SELECT p.organization_id, p.about, p.updated_at
           FROM preference p WHERE p.subject_id = %(subject)s ORDER BY p.organization_id""",
    ),
    Part(
        "own_assistants",
        "assistants that the person made",
        """SELECT a.organization_id, a.id, a.slug, a.name, a.description, a.role, a.system_message, a.tasks, a.model_id,
                  a.created_at, a.deleted_at
           FROM assistant a WHERE a.person_id = %(subject)s OR a.organization_id = ANY(%(own)s)
           ORDER BY a.created_at, a.id""",
    ),
    Part(
        "own_documents",
        "what these assistants know",
        """SELECT d.organization_id, d.assistant_id, d.title, d.source, p.heading, p.content
           FROM document d JOIN passage p ON p.organization_id = d.organization_id AND p.document_id = d.id
           JOIN assistant a ON a.organization_id = d.organization_id AND a.id = d.assistant_id
           WHERE a.person_id = %(subject)s OR a.organization_id = ANY(%(own)s)
           ORDER BY d.organization_id, d.assistant_id, d.id, p.position""",
    ),
    Part(
        "own_models",
        "models of the person's own; their keys are left out",
        """SELECT m.organization_id, m.id, m.name, m.protocol, m.base_url, m.provider_model_id, m.key_hint,
                  m.system_message, m.created_at
           FROM own_model m WHERE m.person_id = %(subject)s OR m.organization_id = ANY(%(own)s)
           ORDER BY m.created_at, m.id""",
    ),
    Part(
        "notices_read",
        "notices that were put away",
        """SELECT n.organization_id, n.kind, n.day, n.read_at
           FROM notice_read n WHERE n.person_id = %(subject)s ORDER BY n.read_at""",
    ),
)
_OF_PEOPLE: Sequence[Part] = (
    Part(
        "memberships",
        "the organisations that the person belongs to",
        """SELECT m.organization_id, o.name AS organization, o.kind, m.role, m.created_at, p.email, p.name
           FROM member m JOIN organization o ON o.id = m.organization_id JOIN person p ON p.id = m.person_id
           WHERE m.person_id = %(subject)s AND (%(within)s::uuid IS NULL OR m.organization_id = %(within)s)
           ORDER BY m.created_at""",
    ),
    Part(
        "keys",
        "API keys that the person made; the keys themselves are not stored",
        """SELECT k.organization_id, k.id, k.name, k.start, k.scopes, k.mode, k.created_at, k.expires_at, k.revoked_at,
                  k.last_used_at
           FROM api_key k
           WHERE k.organization_id = ANY(%(own)s)
              OR (k.created_by = %(actor)s AND (%(within)s::uuid IS NULL OR k.organization_id = %(within)s))
           ORDER BY k.created_at, k.id""",
    ),
    Part(
        "audit",
        "what the person did, and what was done to the account, as the audit log has it",
        """SELECT a.organization_id, a.seq, a.at, a.actor, a.action, a.object_type, a.object_id, a.details, a.address
           FROM audit a
           WHERE (a.actor = %(actor)s OR (a.object_type = 'person' AND a.object_id = %(subject)s::uuid::text))
             AND (%(within)s::uuid IS NULL OR a.organization_id = %(within)s)
           ORDER BY a.at, a.organization_id, a.seq""",
    ),
)
_OF_END_USERS: Sequence[Part] = (
    Part(
        "profile",
        "the id that the host application gave the end user, and the id here",
        """SELECT u.organization_id, u.id, u.external_id, u.created_at
           FROM end_user u WHERE u.organization_id = %(within)s AND u.id = %(subject)s""",
    ),
)
_OF_CALLS: Sequence[Part] = (
    Part(
        "limits",
        "rules that were set for this one",
        f"""SELECT r.organization_id, r.id, r.model_id, r.meter, r.period, r.maximum, r.created_at, r.ended_at
            FROM usage_limit r WHERE {_THEIRS} ORDER BY r.created_at, r.id""",
    ),
    Part(
        "counters",
        "what was counted in each period",
        f"""SELECT r.organization_id, r.meter, r.model_id, r.capability, r.period, r.starts_at, r.used, r.reserved
            FROM quota_window r WHERE {_THEIRS} ORDER BY r.starts_at, r.id""",
    ),
    Part(
        "entitlements",
        "rights to models",
        f"""SELECT r.organization_id, r.model_id, r.source, r.note, r.starts_at, r.expires_at, r.revoked_at
            FROM entitlement r WHERE {_THEIRS} ORDER BY r.starts_at, r.id""",
    ),
    Part(
        "preferences",
        "which models were chosen",
        f"""SELECT r.organization_id, r.default_model_id, r.mail_notices, r.updated_at,
                   (SELECT json_object_agg(v.assistant_id, v.model_id) FROM persona_override v
                    WHERE v.organization_id = r.organization_id AND v.subject_id = r.subject_id) AS overrides
            FROM preference r WHERE {_THEIRS} ORDER BY r.organization_id""",
    ),
    Part(
        "assistant_uses",
        "which assistant each call of a chat was for, and how its answer was rated",
        f"""SELECT r.organization_id, r.request_id, r.assistant_id, r.model_id, r.rating, r.created_at
            FROM assistant_use r WHERE {_THEIRS} ORDER BY r.organization_id, r.request_id""",
    ),
    Part(
        "reservations",
        "what was held for each call and what it cost, with what the host application noted",
        f"""SELECT r.organization_id, r.id, r.channel, r.capability, r.quality, r.model_id, r.state, r.trial,
                   r.amount_micros, r.charged_micros, r.created_at, r.closed_at, r.reason, r.metadata
            FROM reservation r WHERE {_THEIRS} ORDER BY r.organization_id, r.id""",
    ),
    Part(
        "requests",
        "each call to a model",
        f"""SELECT r.organization_id, r.id, r.endpoint, r.channel, r.asked_model, r.model_id, r.reason, r.stream,
                   r.state, r.error, r.created_at, r.finished_at
            FROM request r WHERE {_THEIRS} ORDER BY r.organization_id, r.id""",
    ),
    Part(
        "content",
        "prompts and answers, where the organisation stores them",
        f"""SELECT c.organization_id, c.request_id, c.prompt, c.answer, c.created_at
            FROM request_content c JOIN reservation r ON r.organization_id = c.organization_id AND r.id = c.request_id
            WHERE {_THEIRS} ORDER BY c.organization_id, c.request_id""",
    ),
    Part(
        "usage",
        "tokens and credits of each call",
        f"""SELECT r.organization_id, r.reservation_id, r.recorded_at, r.channel, r.capability, r.quality, r.model_id,
                   r.messages, r.input_tokens, r.cached_input_tokens, r.output_tokens, r.reasoning_tokens, r.estimated,
                   r.charged_micros
            FROM usage_event r WHERE {_THEIRS} ORDER BY r.recorded_at, r.id""",
    ),
    Part(
        "ledger",
        "the rows of the credit ledger that their calls made",
        f"""SELECT t.organization_id, t.seq, t.type, t.amount_micros, t.reservation_id, t.note, t.created_at
            FROM credit_transaction t JOIN reservation r
                ON r.organization_id = t.organization_id AND r.id = t.reservation_id
            WHERE {_THEIRS} ORDER BY t.organization_id, t.seq""",
    ),
    Part(
        "privacy_tasks",
        "exports and erasures that were ordered before",
        f"""SELECT r.organization_id, r.id, r.kind, r.state, r.requested_by, r.requested_at, r.finished_at
            FROM privacy_task r WHERE {_THEIRS} ORDER BY r.requested_at""",
    ),
)


def parts_of(subject: Subject) -> Sequence[Part]:
    """The files of an export: all of an account, or what one organisation has of a member or of an end user."""
    if subject.kind == "end_user":
        return (*_OF_END_USERS, *_OF_CALLS)
    return (*(_ACCOUNT if subject.account else ()), *_OF_PEOPLE, *_OF_CALLS)


async def freeze(tx: OperatorTx) -> None:
    """The transaction sees one moment, until it ends. Before anything else in it."""
    await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    await tx.execute("SELECT set_config('statement_timeout', %s, true)", (PATIENCE,))


async def rows(tx: OperatorTx, part: Part, subject: Subject) -> AsyncGenerator[Sequence[Mapping[str, Any]]]:
    """The rows of a part, some at a time. To be closed by who stops early."""
    about = {"subject": subject.id, "within": subject.within, "own": list(subject.own), "actor": f"person:{subject.id}"}
    async with tx.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("DECLARE export NO SCROLL CURSOR FOR " + part.sql, about)
        while found := await (await cursor.execute(f"FETCH {ROWS_AT_ONCE} FROM export")).fetchall():
            yield found
        await cursor.execute("CLOSE export")  # where it was cut, its transaction ends
