ALTER TABLE organization ADD COLUMN chat_retention_days integer CHECK (chat_retention_days BETWEEN 1 AND 3650);
ALTER TABLE person ADD COLUMN language text CHECK (language ~ '^[a-z]{2}$');
ALTER TABLE plan ADD COLUMN own_models_max integer DEFAULT 10 CHECK (own_models_max >= 0);
ALTER TABLE notice ADD COLUMN mailed_at timestamptz;
CREATE INDEX notice_unmailed ON notice (created_at) WHERE mailed_at IS NULL;
ALTER TABLE api_key ADD COLUMN networks text[];

-- ------------------------------------------------------------------------------------------- assistants and chats

-- A ready-made way to use a model: of the platform (organization_id zero), of an organisation, or of one person in it.
CREATE TABLE assistant (
    organization_id   uuid    NOT NULL REFERENCES organization (id),
    id                uuid    NOT NULL,
    person_id         uuid    REFERENCES person (id),                  -- whose own it is; NULL: for everybody there
    slug              text    NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    kind              text    NOT NULL CHECK (kind IN ('persona', 'template')),
    name              text    NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    description       text    NOT NULL DEFAULT '',
    role              text    NOT NULL DEFAULT '',                     -- blog_content_writer
    system_message    text    NOT NULL CHECK (length(system_message) BETWEEN 1 AND 20000),
    tasks             jsonb   NOT NULL DEFAULT '[]',                   -- [{"name", "prompt"}...]: what it is asked with one press
    icon              text    NOT NULL DEFAULT 'sparkles',
    model_id          text    REFERENCES model (id),                   -- what answers where nobody chose; NULL: the person's default
    max_output_tokens integer CHECK (max_output_tokens > 0),
    business_types    text[]  NOT NULL DEFAULT '{}',                   -- empty: for all
    required_plan_id  text    REFERENCES plan (id),                    -- the lowest that has it
    token_limit       bigint  CHECK (token_limit > 0),                 -- of each person, per period; NULL: none
    token_period      text    CHECK (token_period IN ('day', 'week', 'month')),
    trial_days        integer CHECK (trial_days > 0),                  -- for lower plans, after the organisation first used it
    tags              text[]  NOT NULL DEFAULT '{}',
    is_free           boolean NOT NULL DEFAULT false,                  -- takes no credits, whatever the channel
    is_featured       boolean NOT NULL DEFAULT false,
    is_active         boolean NOT NULL DEFAULT true,
    sort_order        integer NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    deleted_at        timestamptz,
    PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, slug),
    CHECK ((token_limit IS NULL) = (token_period IS NULL))
);

-- What the admins of an organisation say of an assistant of the platform's or of their own. No row: a personal
-- organisation has it, the members of a team have personas and no templates.
CREATE TABLE assistant_setting (
    organization_id uuid    NOT NULL REFERENCES organization (id),
    assistant_id    uuid    NOT NULL,
    enabled         boolean NOT NULL,
    token_limit     bigint  CHECK (token_limit > 0),                   -- of each person, in place of the assistant's own
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, assistant_id)
);

-- What an assistant knows: documents, cut into passages that are found by full text.
CREATE TABLE document (
    organization_id uuid NOT NULL,
    id              uuid NOT NULL,
    assistant_id    uuid NOT NULL,
    title           text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    source          text NOT NULL DEFAULT '',                          -- where it comes from, as a reader would cite it
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, assistant_id) REFERENCES assistant (organization_id, id) ON DELETE CASCADE
);
CREATE TABLE passage (
    organization_id uuid    NOT NULL,
    document_id     uuid    NOT NULL,
    position        integer NOT NULL,
    assistant_id    uuid    NOT NULL,
    heading         text    NOT NULL DEFAULT '',
    content         text    NOT NULL,
    words           tsvector GENERATED ALWAYS AS
        (setweight(to_tsvector('english', heading), 'A') || to_tsvector('english', content)) STORED,
    PRIMARY KEY (organization_id, document_id, position),
    FOREIGN KEY (organization_id, document_id) REFERENCES document (organization_id, id) ON DELETE CASCADE
);
CREATE INDEX passage_words ON passage USING gin (words);
CREATE INDEX passage_of ON passage (organization_id, assistant_id);

-- A model of an organisation's or a person's own, at an endpoint of theirs. It costs no credits: they pay it themselves.
CREATE TABLE own_model (
    organization_id   uuid    NOT NULL REFERENCES organization (id),
    id                uuid    NOT NULL,
    person_id         uuid    REFERENCES person (id),                  -- NULL: for everybody in the organisation
    name              text    NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    protocol          text    NOT NULL CHECK (protocol IN ('openai', 'anthropic', 'google')),
    base_url          text    NOT NULL,
    provider_model_id text    NOT NULL CHECK (length(provider_model_id) BETWEEN 1 AND 200),
    key_ciphertext    bytea,                                           -- AES-256-GCM; NULL: this server wants no key
    key_hint          text,
    system_message    text    NOT NULL DEFAULT '' CHECK (length(system_message) <= 20000),
    context_window    integer NOT NULL CHECK (context_window > 0),
    max_output_tokens integer NOT NULL CHECK (max_output_tokens > 0),
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id)
);

-- What somebody (a person, or a host application's end user) has chosen in an organisation.
CREATE TABLE preference (
    organization_id  uuid NOT NULL REFERENCES organization (id),
    subject_id       uuid NOT NULL,
    default_model_id text REFERENCES model (id),                       -- NULL: the system's
    about            text NOT NULL DEFAULT '' CHECK (length(about) <= 2000), -- what assistants are told of them
    mail_notices     boolean NOT NULL DEFAULT true,                    -- notices come by mail too
    updated_at       timestamptz NOT NULL,
    PRIMARY KEY (organization_id, subject_id)
);
CREATE TABLE persona_override (
    organization_id uuid NOT NULL REFERENCES organization (id),
    subject_id      uuid NOT NULL,
    assistant_id    uuid NOT NULL,
    model_id        text NOT NULL REFERENCES model (id),
    PRIMARY KEY (organization_id, subject_id, assistant_id)
);

-- Conversations are one person's, and nobody else's in the organisation.
CREATE TABLE conversation (
    organization_id uuid NOT NULL REFERENCES organization (id),
    id              uuid NOT NULL,
    person_id       uuid NOT NULL REFERENCES person (id),
    title           text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    assistant_id    uuid,                                              -- NULL: the bare model
    model_choice    text,                                              -- chosen in this chat: a model's id, 'auto' or 'own/<uuid>'; NULL: by preference
    pinned_at       timestamptz,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,                              -- of the last message
    words           tsvector GENERATED ALWAYS AS (to_tsvector('simple', title)) STORED,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX conversation_list ON conversation (organization_id, person_id, updated_at DESC, id DESC);
CREATE INDEX conversation_pinned ON conversation (organization_id, person_id, pinned_at) WHERE pinned_at IS NOT NULL;

CREATE TABLE message (
    organization_id uuid    NOT NULL,
    conversation_id uuid    NOT NULL,
    id              uuid    NOT NULL,                                  -- in the order of time
    person_id       uuid    NOT NULL,
    author          text    NOT NULL CHECK (author IN ('person', 'assistant')),
    state           text    NOT NULL CHECK (state IN ('writing', 'done', 'stopped', 'incomplete', 'failed')),
    content         text    NOT NULL,
    attachments     jsonb   NOT NULL DEFAULT '[]',                     -- [{"name", "text"}...]
    citations       jsonb   NOT NULL DEFAULT '[]',                     -- [{"number", "title", "source", "heading", "content"}...]
    error           jsonb,                                             -- {"code", "message"}: why there is no more of it
    request_id      uuid,                                              -- the request that made it
    model_id        text,                                              -- that really answered
    model_name      text,
    reason          text,                                              -- why this model, where it was not the one named
    trial           boolean NOT NULL DEFAULT false,
    trial_remaining integer,
    input_tokens    bigint,
    output_tokens   bigint,
    cost_nanos      bigint,
    charged_micros  bigint,
    first_token_ms  integer,
    duration_ms     integer,
    rating          smallint CHECK (rating IN (-1, 1)),
    rating_note     text    NOT NULL DEFAULT '' CHECK (length(rating_note) <= 1000),
    stop_wanted     boolean NOT NULL DEFAULT false,                    -- the process that writes it reads this
    replaced_at     timestamptz,                                       -- answered anew, or edited: shown no more
    created_at      timestamptz NOT NULL,
    written_at      timestamptz NOT NULL,                              -- when its text grew last; of one being written, whether somebody still writes it
    words           tsvector GENERATED ALWAYS AS (to_tsvector('simple', left(content, 100000))) STORED, -- no index: row-level security comes first
    PRIMARY KEY (organization_id, conversation_id, id),
    FOREIGN KEY (organization_id, conversation_id) REFERENCES conversation (organization_id, id) ON DELETE CASCADE
);
CREATE INDEX message_writing ON message (written_at) WHERE state = 'writing';
CREATE INDEX message_request ON message (organization_id, request_id) WHERE request_id IS NOT NULL;

-- Which assistant a call was for, and how its answer was rated: stays for the figures when the conversation is gone.
CREATE TABLE assistant_use (
    organization_id uuid NOT NULL,
    request_id      uuid NOT NULL,
    subject_id      uuid NOT NULL,
    assistant_id    uuid,                                              -- NULL: the bare model
    model_id        text NOT NULL,
    rating          smallint CHECK (rating IN (-1, 1)),
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, request_id)
);
CREATE INDEX assistant_use_of ON assistant_use (organization_id, assistant_id, created_at);
CREATE INDEX assistant_use_by ON assistant_use (organization_id, subject_id, created_at)
    INCLUDE (request_id, assistant_id, model_id, rating);

-- Which notices of the organisation somebody has put away.
CREATE TABLE notice_read (
    organization_id uuid NOT NULL,
    person_id       uuid NOT NULL,
    kind            text NOT NULL,
    day             date NOT NULL,
    read_at         timestamptz NOT NULL,
    PRIMARY KEY (organization_id, person_id, kind, day),
    FOREIGN KEY (organization_id, kind, day) REFERENCES notice (organization_id, kind, day) ON DELETE CASCADE
);

-- What somebody used themselves, summed from the index alone. Calls with an API key are nobody's own: they do not pay for it.
CREATE INDEX usage_event_own ON usage_event (organization_id, subject_id, recorded_at)
    INCLUDE (reservation_id, model_id, messages, input_tokens, output_tokens, charged_micros, cost_nanos) WHERE key_id IS NULL;
GRANT SELECT ON usage_day_done TO tollhouse_web;

-- The platform's assistants are there for everybody to read; nobody but operators changes them.
DO $$
DECLARE
    name text;
    platform CONSTANT text := 'organization_id = ''00000000-0000-0000-0000-000000000000''::uuid';
    tenant CONSTANT text := 'organization_id = (SELECT app_organization())';
    self CONSTANT text := 'organization_id = (SELECT app_organization()) AND person_id = (SELECT app_person())';
BEGIN
    FOREACH name IN ARRAY ARRAY['assistant', 'document', 'passage', 'assistant_setting', 'own_model', 'preference',
                                'persona_override', 'conversation', 'message', 'assistant_use', 'notice_read'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY operator ON %I TO tollhouse_operator USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY owner ON %I TO CURRENT_USER USING (true) WITH CHECK (true)', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['assistant', 'document', 'passage'] LOOP
        EXECUTE format('CREATE POLICY platform ON %I FOR SELECT TO tollhouse_web USING (%s)', name, platform);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['assistant', 'document', 'passage', 'assistant_setting', 'own_model', 'preference', 'persona_override', 'assistant_use'] LOOP
        EXECUTE format('CREATE POLICY tenant ON %I TO tollhouse_web USING (%s) WITH CHECK (%s)', name, tenant, tenant);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['conversation', 'message', 'notice_read'] LOOP
        EXECUTE format('CREATE POLICY self ON %I TO tollhouse_web USING (%s) WITH CHECK (%s)', name, self, self);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['conversation', 'message', 'preference', 'member'] LOOP
        EXECUTE format('CREATE POLICY worker ON %I TO tollhouse_worker USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE ON assistant, own_model, preference TO tollhouse_web;
GRANT SELECT, INSERT, DELETE ON document, passage TO tollhouse_web;
GRANT DELETE ON own_model TO tollhouse_web;
GRANT SELECT, INSERT, UPDATE, DELETE ON assistant_setting, persona_override, conversation, message TO tollhouse_web;
GRANT SELECT, INSERT, UPDATE (rating) ON assistant_use TO tollhouse_web;
GRANT SELECT, INSERT ON notice_read TO tollhouse_web;
GRANT UPDATE (chat_retention_days) ON organization TO tollhouse_web;
GRANT UPDATE (language) ON person TO tollhouse_web;
GRANT SELECT, DELETE ON conversation TO tollhouse_worker;
GRANT SELECT, UPDATE, DELETE ON message TO tollhouse_worker;
GRANT SELECT ON preference, member TO tollhouse_worker;
GRANT SELECT, INSERT, UPDATE ON assistant, document, passage, assistant_setting, preference, persona_override,
    assistant_use TO tollhouse_operator;
GRANT SELECT, UPDATE, DELETE ON own_model TO tollhouse_operator;
GRANT DELETE ON assistant, document, passage, assistant_setting, preference, persona_override TO tollhouse_operator;
GRANT SELECT, DELETE ON conversation, message, notice_read TO tollhouse_operator;
GRANT UPDATE (mailed_at) ON notice TO tollhouse_worker;
-- to whom the mail of a notice goes
GRANT SELECT (id, email, email_verified_at, suspended_at, erased_at) ON person TO tollhouse_worker;
CREATE POLICY worker ON person FOR SELECT TO tollhouse_worker USING (true);

DROP FUNCTION find_api_key(bytea);
CREATE FUNCTION find_api_key(wanted bytea)
    RETURNS TABLE (organization_id uuid, id uuid, scopes text[], mode text, expires_at timestamptz, revoked_at timestamptz,
                   clock_offset_micros bigint, suspended_at timestamptz, networks text[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT k.organization_id, k.id, k.scopes, k.mode, k.expires_at, k.revoked_at, o.clock_offset_micros, o.suspended_at,
               k.networks
        FROM api_key k JOIN organization o ON o.id = k.organization_id
        WHERE k.digest = wanted AND o.deleted_at IS NULL;
    END;
REVOKE ALL ON FUNCTION find_api_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_api_key TO tollhouse_web, tollhouse_operator;

-- A session is found together with the language of its person.
DROP FUNCTION find_session(bytea);
CREATE FUNCTION find_session(wanted bytea)
    RETURNS TABLE (id uuid, person_id uuid, organization_id uuid, method text, created_at timestamptz, seen_at timestamptz,
                   expires_at timestamptz, proved_at timestamptz, second_factor boolean, revoked_at timestamptz,
                   impersonator_id uuid, impersonator_session_id uuid, impersonation_reason text,
                   impersonator_email text, impersonator_stands boolean, email text, name text, superadmin boolean, email_verified_at timestamptz, person_suspended_at timestamptz,
                   has_totp boolean, role text, organization_name text, organization_kind text,
                   organization_suspended_at timestamptz, organization_deleted_at timestamptz, clock_offset_micros bigint,
                   language text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT s.id, s.person_id, s.organization_id, s.method, s.created_at, s.seen_at, s.expires_at, s.proved_at,
               s.second_factor, s.revoked_at, s.impersonator_id, s.impersonator_session_id, s.impersonation_reason,
               (SELECT i.email FROM person i WHERE i.id = s.impersonator_id),
               EXISTS (SELECT FROM person i JOIN session own ON own.person_id = i.id AND own.id = s.impersonator_session_id
                       WHERE i.id = s.impersonator_id AND i.superadmin AND i.suspended_at IS NULL
                         AND own.revoked_at IS NULL),
               p.email, p.name, p.superadmin, p.email_verified_at, p.suspended_at,
               EXISTS (SELECT FROM totp t WHERE t.person_id = p.id AND t.confirmed_at IS NOT NULL),
               m.role, o.name, o.kind, o.suspended_at, o.deleted_at, o.clock_offset_micros, p.language
        FROM session s JOIN person p ON p.id = s.person_id JOIN organization o ON o.id = s.organization_id
        LEFT JOIN member m ON m.organization_id = s.organization_id AND m.person_id = s.person_id
        WHERE s.digest = wanted;
    END;
REVOKE ALL ON FUNCTION find_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_session TO tollhouse_web, tollhouse_operator;
