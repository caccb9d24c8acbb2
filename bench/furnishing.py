"""Fills an installation with what people leave behind in it: chats, usage, statements, notices, choices. As rows, as
many as are wanted, so that pages can be looked at, tested and measured with them; no ledger is proven afterwards."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import AsyncConnection

from tollhouse.core.quota import counter

# Ids in the order of time, as core.key.ordered_id makes them; `at` and `salt` stand where they are put in.
_ID: LiteralString = """(lpad(to_hex((extract(epoch FROM {at}) * 1000)::bigint), 12, '0') || '7'
    || substr(md5({salt}), 1, 3) || '8' || substr(md5({salt}), 4, 15))::uuid"""
# What 20 calls go to, the same mixture again and again.
_MODELS: LiteralString = """(ARRAY['gpt-4o-mini', 'gpt-4o-mini', 'claude-3-5-haiku', 'gpt-4o', 'gpt-4o-mini',
    'llama-3.1-8b', 'claude-3-5-sonnet', 'gpt-4o-mini', 'claude-3-5-haiku', 'gpt-4o-mini'])[1 + n % 10]"""
_ASSISTANT: LiteralString = """(SELECT (array_agg(id ORDER BY sort_order, id))[1 + n % 5] FROM assistant
    WHERE organization_id = '00000000-0000-0000-0000-000000000000' AND n % 4 < 3)"""


@dataclass(frozen=True, slots=True)
class Amounts:
    """`calls` are spread over the `days` until now; one in `people` is the person's own. `exchanges`: questions with
    their answers in each conversation; `models` are added to those of the catalogue."""

    conversations: int = 30
    exchanges: int = 3
    calls: int = 900
    days: int = 60
    people: int = 3
    transactions: int = 60
    models: int = 0


async def furnish(
    connection: AsyncConnection[Any], organization_id: UUID, person_id: UUID, now: datetime, amounts: Amounts
) -> None:
    """All of it, for one person of the organisation; `connection` is the owner's. Nothing is committed here."""
    given = {"organization": organization_id, "person": person_id, "now": now, **_numbers(amounts)}
    for statement in (
        _MORE_MODELS, _CALLS, _REQUESTS, _ROLLED_UP, _DAYS_DONE, _CONVERSATIONS, _QUESTIONS, _ANSWERS, _USES,
        _TRANSACTIONS, _BALANCE, _GRANT, _NOTICES, _PREFERENCE, _OVERRIDE, _UNLOCKED, _ENABLED,
    ):  # fmt: skip
        await connection.execute(statement, given)
    await _use_up(connection, organization_id, person_id, now)


def _numbers(amounts: Amounts) -> dict[str, int]:
    return {name: getattr(amounts, name) for name in Amounts.__dataclass_fields__}


async def _use_up(
    connection: AsyncConnection[Any], organization_id: UUID, person_id: UUID, now: datetime
) -> None:  # fmt: skip
    """The trial of one model to its last message, that of another to its end, and the day's messages of a third."""
    used = (
        (counter(person_id, "trial_messages", "lifetime", now, "gpt-4o"), 1),
        (counter(person_id, "trial_messages", "lifetime", now, "claude-3-opus"), 2),
        (counter(person_id, "messages", "day", now, "claude-3-5-sonnet"), 50),
        (counter(person_id, "messages", "day", now), 61),
        (counter(organization_id, "tokens", "month", now), 3_400_000),
    )
    for one, amount in used:
        await connection.execute(
            """INSERT INTO quota_window (organization_id, id, subject_id, meter, model_id, period, starts_at, used,
                   reserved)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 0)
               ON CONFLICT (organization_id, id) DO UPDATE SET used = EXCLUDED.used""",
            (organization_id, one.window_id, one.subject_id, one.meter, one.model_id, one.period, one.starts_at,
             amount),
        )  # fmt: skip


_MORE_MODELS: LiteralString = """
    WITH added AS (
        INSERT INTO model (id, provider_id, provider_model_id, display_name, description, tier, price_cents, metadata,
            daily_messages, trial_messages, context_window, max_output_tokens, sort_order)
        SELECT 'more-' || n, m.provider_id, 'more-' || n, 'Model ' || n, m.description, m.tier, m.price_cents,
               m.metadata, m.daily_messages, m.trial_messages, m.context_window, m.max_output_tokens, 100 + n
        FROM generate_series(1, %(models)s) n
        JOIN model m ON m.id = (ARRAY['gpt-4o-mini', 'gpt-4o', 'claude-3-5-haiku'])[1 + n %% 3]
        RETURNING id)
    INSERT INTO model_price (model_id, version, effective_from, input_nanos_per_million, cached_input_nanos_per_million,
        output_nanos_per_million)
    SELECT id, 1, %(now)s::timestamptz - interval '1 day', 150000000, 75000000, 600000000 FROM added"""

# Two of three calls are made in the last half of the time; the last one a moment ago.
_MOMENT: LiteralString = """%(now)s::timestamptz
    - (power(1 - n::float / greatest(%(calls)s, 1), 1.3) * %(days)s * 86400 || ' seconds')::interval
    - interval '90 seconds'"""
_CALLS: LiteralString = f"""
    INSERT INTO usage_event (organization_id, id, recorded_at, started_at, reservation_id, subject_id, channel,
        model_id, provider_id, price_version, rate_version, multiplier_permille, messages, input_tokens,
            cached_input_tokens,
        output_tokens, reasoning_tokens, trial, estimated, cost_nanos, charged_micros, duration_ms, first_token_ms)
    SELECT %(organization)s, {_ID.format(at="at", salt="'event' || n")}, at, at - interval '2 seconds',
           {_ID.format(at="at", salt="'call' || n")},
           CASE WHEN n %% %(people)s = 0 THEN %(person)s ELSE md5('somebody' || n %% %(people)s)::uuid END,
           'chat', model_id, 'sandbox', 1, 1, 1000, 1, 120 + n * 37 %% 900, 0, 200 + n * 53 %% 700, 0, false, false,
           (120 + n * 37 %% 900) * 400 + (200 + n * 53 %% 700) * 2100, 0, 1400 + n * 71 %% 4200, 240 + n * 29 %% 700
    FROM (SELECT n, {_MOMENT} AS at, {_MODELS.replace("%", "%%")} AS model_id
          FROM generate_series(1, %(calls)s) n) AS call"""
_REQUESTS: LiteralString = """
    INSERT INTO request (organization_id, id, subject_id, endpoint, channel, model_id, stream, state, created_at,
        finished_at, asked_model)
    SELECT organization_id, reservation_id, subject_id, '/chat', channel, model_id, true,
           CASE WHEN duration_ms %% 23 = 0 THEN 'incomplete' ELSE 'done' END, started_at, recorded_at, model_id
    FROM usage_event WHERE organization_id = %(organization)s"""
_ROLLED_UP: LiteralString = """
    INSERT INTO usage_day (organization_id, day, subject_id, channel, capability, model_id, requests, messages,
        trial_messages, estimated, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost_nanos,
        charged_micros)
    SELECT organization_id, (recorded_at AT TIME ZONE 'UTC')::date, subject_id, channel, '', model_id, count(*),
           sum(messages), 0, 0, sum(input_tokens), 0, sum(output_tokens), 0, sum(cost_nanos), sum(charged_micros)
    FROM usage_event
    WHERE organization_id = %(organization)s AND recorded_at < date_trunc('day', %(now)s::timestamptz, 'UTC')
    GROUP BY 1, 2, 3, 4, 6
    ON CONFLICT DO NOTHING"""
_DAYS_DONE: LiteralString = """
    INSERT INTO usage_day_done (day, done_at)
    SELECT (%(now)s::timestamptz AT TIME ZONE 'UTC')::date - n, %(now)s FROM generate_series(1, %(days)s + 1) n
    ON CONFLICT DO NOTHING"""

_CONVERSATION_ID: LiteralString = _ID.format(at="at", salt="%(person)s::text || 'conversation' || n")
_BEGUN: LiteralString = """SELECT n, %(now)s::timestamptz - n * n * interval '7 minutes' / greatest(n / 30, 1) AS at
    FROM generate_series(0, %(conversations)s - 1) n"""
_CONVERSATIONS: LiteralString = f"""
    INSERT INTO conversation (organization_id, id, person_id, title, assistant_id, pinned_at, created_at, updated_at)
    SELECT %(organization)s, {_CONVERSATION_ID}, %(person)s,
           (ARRAY['Keeping calm before a hard talk', 'A week without hurry', 'Names for a bakery',
                  'SQL: the last row of each group', 'What is owed to a friend', 'Plan for the school fair',
                  'Letter to a supplier', 'Why does bread rise?', 'On being wrong in public',
                  'Notes of Monday''s meeting'])[1 + n %% 10]
               || CASE WHEN n < 10 THEN '' ELSE ', ' || n / 10 + 1 END,
           {_ASSISTANT.replace("%", "%%")}, CASE WHEN n IN (0, 5) THEN at END, at, at
    FROM ({_BEGUN}) AS begun"""
_QUESTIONS: LiteralString = f"""
    INSERT INTO message (organization_id, conversation_id, id, person_id, author, state, content, attachments,
        created_at, written_at)
    SELECT %(organization)s, {_CONVERSATION_ID}, {_ID.format(at="said", salt="n || 'question' || k")}, %(person)s,
           'person', 'done',
           (ARRAY['I have to tell a colleague that her work is not good enough. How do I stay kind and clear?',
                  'Make it shorter, and give me one sentence to begin with.',
                  'Thank you. What if she disagrees with all of it?'])[1 + k %% 3],
           CASE WHEN n = 0 AND k = 0
                THEN '[{{"name": "notes.txt", "text": "Late twice. Good ideas. Poor tests."}}]'::jsonb
                ELSE '[]' END, said, said
    FROM ({_BEGUN}) AS begun, generate_series(0, %(exchanges)s - 1) k,
         LATERAL (SELECT at - (%(exchanges)s - k) * interval '4 minutes' AS said) AS moment"""
_ANSWER: LiteralString = """$answer$
Begin with what you both want: **work that she can be proud of**. Then say what you saw, not what you think of her [1].

1. *Before*: write down two examples, with their dates.
2. *During*: ask what she sees herself, and wait for the answer.
3. *After*: agree on one thing, and on the day you will look at it together.

| instead of | say |
|---|---|
| "You are careless." | "Two releases went out without their tests." |
| "Everybody says so." | "I saw it on the 3rd and on the 10th." |

```python
def kind(words: str) -> bool:
    return "you always" not in words.lower()  # say what happened, once
```

It is her deed that you judge, and only that [2].$answer$"""
_ANSWERS: LiteralString = f"""
    INSERT INTO message (organization_id, conversation_id, id, person_id, author, state, content, citations, error,
        model_id, model_name, reason, trial, trial_remaining, input_tokens, output_tokens, cost_nanos, charged_micros,
        first_token_ms, duration_ms, rating, created_at, written_at)
    SELECT %(organization)s, {_CONVERSATION_ID}, {_ID.format(at="said", salt="n || 'answer' || k")}, %(person)s,
           'assistant', state, CASE WHEN state = 'failed' THEN '' ELSE {_ANSWER} END,
           CASE WHEN state = 'done' THEN '[
               {{"number": 1, "title": "Meditations", "source": "book 9", "heading": "On correcting others",
                 "content": "Correct without reproach, as somebody who hopes to be corrected in turn."}},
               {{"number": 2, "title": "Meditations", "source": "book 2", "heading": "What cannot harm",
                 "content": "Who does wrong has not seen clearly: patience first, a plain word second."}}]'::jsonb
                ELSE '[]' END,
           CASE WHEN state = 'failed'
                THEN '{{"code": "provider_error", "message": "OpenAI did not answer. Nothing was charged."}}'::jsonb
           END,
           model, name, CASE WHEN k = 1 THEN 'a simple question: chosen for its speed' END, model = 'gpt-4o',
           CASE WHEN model = 'gpt-4o' THEN 1 END, 412, 288, 221000, 0, 420, 3900,
           CASE WHEN (n + k) %% 5 = 0 THEN 1 WHEN (n + k) %% 11 = 0 THEN -1 END, said, said + interval '4 seconds'
    FROM ({_BEGUN}) AS begun, generate_series(0, %(exchanges)s - 1) k,
         LATERAL (SELECT at - (%(exchanges)s - k) * interval '4 minutes' + interval '20 seconds' AS said,
                         CASE WHEN n %% 9 = 3 AND k = 1 THEN 'failed' WHEN n %% 9 = 4 AND k = 2 THEN 'incomplete'
                              ELSE 'done' END AS state,
                         CASE WHEN n %% 3 = 0 AND k = 0 THEN 'gpt-4o' ELSE 'gpt-4o-mini' END AS model,
                         CASE WHEN n %% 3 = 0 AND k = 0 THEN 'GPT-4o' ELSE 'GPT-4o Mini' END AS name) AS moment"""
_USES: LiteralString = f"""
    INSERT INTO assistant_use (organization_id, request_id, subject_id, assistant_id, model_id, rating, created_at)
    SELECT organization_id, reservation_id, subject_id, {_ASSISTANT.replace("%", "%%")}, model_id,
           CASE WHEN n %% 5 = 0 THEN 1 WHEN n %% 17 = 0 THEN -1 END, recorded_at
    FROM (SELECT *, duration_ms / 7 AS n FROM usage_event
          WHERE organization_id = %(organization)s AND subject_id = %(person)s) AS used"""

# Charges against the grant that is spent first, of less than half of it together.
_SPENT: LiteralString = """SELECT n, (n * 37 %% 9 + 1) * (
        SELECT remaining_micros / (12 * greatest(%(transactions)s, 1)) FROM credit_grant
        WHERE organization_id = %(organization)s AND remaining_micros > 0
        ORDER BY priority, expires_at LIMIT 1) AS micros,
    %(now)s::timestamptz - (%(transactions)s - n) * interval '9 hours' AS at
    FROM generate_series(1, %(transactions)s) n"""
_TRANSACTIONS: LiteralString = f"""
    INSERT INTO credit_transaction (organization_id, seq, id, type, amount_micros, balance_after_micros, grant_id,
        reservation_id, actor, created_at)
    SELECT b.organization_id, b.seq + n, {_ID.format(at="at", salt="'transaction' || n")}, 'ai_consumption', -micros,
           b.remaining_micros - b.debt_micros - sum(micros) OVER (ORDER BY n),
           (SELECT id FROM credit_grant g WHERE g.organization_id = b.organization_id AND g.remaining_micros > 0
            ORDER BY priority, expires_at LIMIT 1), gen_random_uuid(), 'person:' || %(person)s, at
    FROM credit_balance b, ({_SPENT}) AS spent WHERE b.organization_id = %(organization)s"""
_GRANT: LiteralString = f"""
    UPDATE credit_grant SET remaining_micros = remaining_micros - (SELECT coalesce(sum(micros), 0)
        FROM ({_SPENT}) AS spent)
    WHERE (organization_id, id) = (
        SELECT organization_id, grant_id FROM credit_transaction
        WHERE organization_id = %(organization)s AND type = 'ai_consumption' LIMIT 1)"""
_BALANCE: LiteralString = f"""
    UPDATE credit_balance SET seq = seq + %(transactions)s,
        remaining_micros = remaining_micros - (SELECT coalesce(sum(micros), 0) FROM ({_SPENT}) AS spent)
    WHERE organization_id = %(organization)s"""
_NOTICES: LiteralString = """
    INSERT INTO notice (organization_id, kind, day, available_micros, threshold_micros, created_at)
    SELECT %(organization)s, kind, (%(now)s::timestamptz AT TIME ZONE 'UTC')::date - days, available, threshold,
           %(now)s::timestamptz - days * interval '1 day'
    FROM (VALUES ('low_balance', 1, 98400000, 100000000), ('low_balance', 31, 97100000, 100000000),
                 ('depleted', 33, 400000, 1000000)) AS told(kind, days, available, threshold)
    ON CONFLICT DO NOTHING"""
_PREFERENCE: LiteralString = """
    INSERT INTO preference (organization_id, subject_id, default_model_id, about, updated_at)
    VALUES (%(organization)s, %(person)s, 'claude-3-5-haiku', 'I lead a small team, and like short answers.', %(now)s)
    ON CONFLICT DO NOTHING"""
_OVERRIDE: LiteralString = """
    INSERT INTO persona_override (organization_id, subject_id, assistant_id, model_id)
    SELECT %(organization)s, %(person)s, id, 'claude-3-5-sonnet' FROM assistant WHERE slug = 'marcus'
    ON CONFLICT DO NOTHING"""
_UNLOCKED: LiteralString = """
    INSERT INTO entitlement (organization_id, id, subject_id, model_id, source, starts_at)
    VALUES (%(organization)s, gen_random_uuid(), %(person)s, 'claude-3-5-sonnet', 'purchase',
        %(now)s::timestamptz - interval '20 days')"""

_ENABLED: LiteralString = """
    INSERT INTO assistant_setting (organization_id, assistant_id, enabled, updated_at)
    SELECT %(organization)s, id, true, %(now)s FROM assistant
    WHERE organization_id = '00000000-0000-0000-0000-000000000000'
    ON CONFLICT DO NOTHING"""

# ---------------------------------------------------------------------------------------------------------- admins


async def crowd(
    connection: AsyncConnection[Any], organization_id: UUID, person_id: UUID, now: datetime, amount: int
) -> None:
    """So many of whatever admins, operators and the person see in lists. Nothing is committed here."""
    given = {"organization": organization_id, "person": person_id, "now": now, "amount": amount}
    for statement in (_PEOPLE, _MEMBERS, _SESSIONS, _KEYS, _CONNECTIONS, _INVITATIONS, _ISSUERS, _ASSISTANTS,
                      _DOCUMENTS, _OWN_MODELS, _ORGANIZATIONS, _BALANCES, _PROVIDERS, _MAILS, _TASKS,
                      _MORE_NOTICES):  # fmt: skip
        await connection.execute(statement, given)


_MANY: LiteralString = "FROM generate_series(1, %(amount)s) n"
_PEOPLE: LiteralString = f"""
    INSERT INTO person (id, email, name, created_at)
    SELECT md5('crowd' || n)::uuid, 'person' || n || '@example.com', 'Person ' || n, %(now)s {_MANY}"""
_MEMBERS: LiteralString = f"""
    INSERT INTO member (organization_id, person_id, role, created_at)
    SELECT %(organization)s, md5('crowd' || n)::uuid, 'member', %(now)s {_MANY}"""
_SESSIONS: LiteralString = f"""
    INSERT INTO session (person_id, id, digest, organization_id, method, created_at, seen_at, expires_at, proved_at)
    SELECT %(person)s, gen_random_uuid(), sha256(('session' || n)::bytea), %(organization)s, 'password', %(now)s,
           %(now)s, %(now)s::timestamptz + interval '7 days', %(now)s {_MANY}"""
_KEYS: LiteralString = f"""
    INSERT INTO api_key (organization_id, id, name, digest, start, scopes, mode, created_at, model_ids, created_by)
    SELECT %(organization)s, gen_random_uuid(), 'Key ' || n, sha256(('key' || n)::bytea), 'th_test_ab',
        '{{gateway}}', 'test', %(now)s, '{{gpt-4o-mini}}', 'person:' || %(person)s {_MANY}"""
_CONNECTIONS: LiteralString = f"""
    INSERT INTO connection (organization_id, id, provider_id, base_url, origin, enabled, created_at, name)
    SELECT %(organization)s, gen_random_uuid(), 'openai', 'https://example.com/v1', 'organization', false, %(now)s,
           'Connection ' || n {_MANY}"""
_INVITATIONS: LiteralString = f"""
    INSERT INTO invitation (organization_id, id, email, role, digest, invited_by, created_at, expires_at)
    SELECT %(organization)s, gen_random_uuid(), 'guest' || n || '@example.com', 'member', sha256(('guest' || n)::bytea),
           'person:' || %(person)s, %(now)s, %(now)s::timestamptz + interval '3 days' {_MANY}"""
_ISSUERS: LiteralString = f"""
    INSERT INTO jwt_issuer (organization_id, id, name, issuer, audience, jwks_url, created_at)
    SELECT %(organization)s, gen_random_uuid(), 'Issuer ' || n, 'https://' || n || '.example.com', 'mill',
           'https://example.com/keys', %(now)s {_MANY}"""
_ASSISTANTS: LiteralString = f"""
    INSERT INTO assistant (organization_id, id, slug, kind, name, system_message, created_at, updated_at)
    SELECT %(organization)s, md5('assistant' || n)::uuid, 'ours-' || n, 'template', 'Ours ' || n, 'Be brief.',
        %(now)s, %(now)s {_MANY}"""
_DOCUMENTS: LiteralString = f"""
    INSERT INTO document (organization_id, id, assistant_id, title, created_at)
    SELECT %(organization)s, gen_random_uuid(), md5('assistant1')::uuid, 'Handbook ' || n, %(now)s {_MANY}"""
_OWN_MODELS: LiteralString = f"""
    INSERT INTO own_model (organization_id, id, person_id, name, protocol, base_url, provider_model_id, context_window,
        max_output_tokens, created_at, updated_at)
    SELECT %(organization)s, gen_random_uuid(), CASE WHEN n %% 2 = 0 THEN %(person)s::uuid END, 'Own ' || n, 'openai',
           'https://example.com/v1', 'own-' || n, 8192, 1024, %(now)s, %(now)s {_MANY}"""
_ORGANIZATIONS: LiteralString = f"""
    INSERT INTO organization (id, name, kind, plan_id, period_anchor, created_at)
    SELECT md5('organization' || n)::uuid, 'Organisation ' || n, 'team', 'free', %(now)s, %(now)s {_MANY}"""
_BALANCES: LiteralString = f"""
    INSERT INTO credit_balance (organization_id, period_start, period_end, next_due_at)
    SELECT md5('organization' || n)::uuid, %(now)s, %(now)s::timestamptz + interval '1 month',
           %(now)s::timestamptz + interval '1 month' {_MANY}"""
_PROVIDERS: LiteralString = f"""
    INSERT INTO identity_provider (id, name, issuer, client_id, created_at)
    SELECT gen_random_uuid(), 'Provider ' || n, 'https://' || n || '.example.org', 'tollhouse', %(now)s {_MANY}"""
_MAILS: LiteralString = f"""
    INSERT INTO mail (id, recipient, kind, subject, body, created_at, due_at)
    SELECT gen_random_uuid(), 'person' || n || '@example.com', 'sign_in', 'Your link', 'It is here.', %(now)s,
        %(now)s {_MANY}"""
_TASKS: LiteralString = f"""
    INSERT INTO privacy_task (organization_id, id, kind, subject_kind, subject_id, state, steps_done, steps,
        requested_by, requested_at, finished_at)
    SELECT %(organization)s, gen_random_uuid(), 'export', 'person', md5('crowd' || n)::uuid, 'done', 4, 4,
        'system', %(now)s, %(now)s {_MANY}"""
_MORE_NOTICES: LiteralString = f"""
    INSERT INTO notice (organization_id, kind, day, available_micros, threshold_micros, created_at)
    SELECT %(organization)s, 'low_balance', (%(now)s::timestamptz AT TIME ZONE 'UTC')::date - 40 - n, 98400000,
           100000000, %(now)s::timestamptz - (40 + n) * interval '1 day' {_MANY}"""
