-- People: how they sign in, what they may be asked for again, who invited them, which tokens of other issuers are theirs; what
-- throttles guesses, what mail goes out, what is exported and erased. Keys with a list of models; an audit log that says from where.

-- The person of the transaction, like app_organization().
CREATE FUNCTION app_person() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog
    RETURN nullif(current_setting('tollhouse.person_id', true), '')::uuid;

ALTER TABLE organization
    ADD COLUMN retention_days integer NOT NULL DEFAULT 30 CHECK (retention_days BETWEEN 1 AND 3650),
    ADD COLUMN deleted_at timestamptz;

ALTER TABLE person
    ADD COLUMN email_verified_at timestamptz,
    ADD COLUMN suspended_at timestamptz,
    ADD COLUMN erased_at timestamptz,
    ADD CONSTRAINT person_name CHECK (length(name) <= 200);

ALTER TABLE api_key
    ADD COLUMN model_ids text[],
    ADD COLUMN last_used_at timestamptz,
    ADD COLUMN created_by text NOT NULL DEFAULT 'system',
    ADD COLUMN replaced_by uuid,
    ADD COLUMN counts_as uuid;

ALTER TABLE usage_limit
    DROP CONSTRAINT usage_limit_meter_check,
    ADD CONSTRAINT usage_limit_meter_check CHECK (meter IN ('messages', 'tokens', 'credits'));

ALTER TABLE kept_answer ADD COLUMN request_id uuid;

ALTER TABLE audit ADD COLUMN address text;
CREATE INDEX audit_at ON audit (organization_id, at);

CREATE TABLE password (
    person_id  uuid PRIMARY KEY REFERENCES person (id),
    hash       text NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE TABLE totp (
    person_id    uuid PRIMARY KEY REFERENCES person (id),
    secret       bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    confirmed_at timestamptz,
    last_step    bigint NOT NULL DEFAULT 0
);

CREATE TABLE recovery_code (
    person_id uuid  NOT NULL REFERENCES person (id),
    digest    bytea NOT NULL,
    used_at   timestamptz,
    PRIMARY KEY (person_id, digest)
);

CREATE TABLE identity_provider (
    id                uuid PRIMARY KEY,
    name              text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    issuer            text NOT NULL UNIQUE,
    client_id         text NOT NULL,
    secret_ciphertext bytea,
    enabled           boolean NOT NULL DEFAULT true,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz
);

CREATE TABLE linked_identity (
    person_id   uuid NOT NULL REFERENCES person (id),
    provider_id uuid NOT NULL REFERENCES identity_provider (id) ON DELETE CASCADE,
    subject     text NOT NULL,
    email       text,
    linked_at   timestamptz NOT NULL,
    PRIMARY KEY (provider_id, subject)
);
CREATE INDEX linked_identity_person ON linked_identity (person_id);

CREATE TABLE session (
    person_id            uuid  NOT NULL REFERENCES person (id),
    id                   uuid  NOT NULL,
    digest               bytea NOT NULL,
    organization_id      uuid  NOT NULL REFERENCES organization (id),
    method               text  NOT NULL CHECK (method IN ('password', 'link', 'oidc', 'impersonation')),
    created_at           timestamptz NOT NULL,
    seen_at              timestamptz NOT NULL,
    expires_at           timestamptz NOT NULL,
    proved_at            timestamptz NOT NULL,
    second_factor        boolean NOT NULL DEFAULT false,
    revoked_at           timestamptz,
    address              text,
    user_agent           text NOT NULL DEFAULT '',
    impersonator_id      uuid REFERENCES person (id),
    impersonation_reason text,
    impersonator_session_id uuid,
    PRIMARY KEY (person_id, id),
    CHECK ((impersonator_id IS NULL) = (method <> 'impersonation')),
    CHECK ((impersonator_id IS NULL) = (impersonation_reason IS NULL)),
    CHECK ((impersonator_id IS NULL) = (impersonator_session_id IS NULL))
);
CREATE UNIQUE INDEX session_digest ON session (digest);
CREATE INDEX session_expires ON session (expires_at);

CREATE TABLE one_time_token (
    digest     bytea PRIMARY KEY,
    purpose    text NOT NULL CHECK (purpose IN ('verify_email', 'sign_in', 'reset_password', 'change_email')),
    person_id  uuid NOT NULL REFERENCES person (id),
    email      text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX one_time_token_person ON one_time_token (person_id, purpose);

CREATE TABLE invitation (
    organization_id uuid NOT NULL REFERENCES organization (id),
    id              uuid NOT NULL,
    email           text NOT NULL CHECK (email = lower(email) AND length(email) <= 254),
    role            text NOT NULL CHECK (role IN ('admin', 'member')),
    digest          bytea NOT NULL,
    invited_by      text NOT NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    accepted_at     timestamptz,
    revoked_at      timestamptz,
    PRIMARY KEY (organization_id, id)
);
CREATE UNIQUE INDEX invitation_digest ON invitation (digest);
CREATE UNIQUE INDEX invitation_open ON invitation (organization_id, email) WHERE accepted_at IS NULL AND revoked_at IS NULL;

CREATE TABLE jwt_issuer (
    organization_id uuid NOT NULL REFERENCES organization (id),
    id              uuid NOT NULL,
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    issuer          text NOT NULL CHECK (length(issuer) BETWEEN 1 AND 500),
    audience        text NOT NULL CHECK (length(audience) BETWEEN 1 AND 500),
    jwks_url        text NOT NULL,
    user_claim      text NOT NULL DEFAULT 'sub',
    enabled         boolean NOT NULL DEFAULT true,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz,
    PRIMARY KEY (organization_id, id)
);
CREATE UNIQUE INDEX jwt_issuer_tokens ON jwt_issuer (issuer, audience);

CREATE UNLOGGED TABLE throttle (
    id       bytea PRIMARY KEY,
    ready_at timestamptz NOT NULL
);
CREATE INDEX throttle_ready ON throttle (ready_at);

CREATE TABLE mail (
    id         uuid PRIMARY KEY,
    recipient  text NOT NULL,
    kind       text NOT NULL,
    subject    text NOT NULL,
    body       text NOT NULL,
    created_at timestamptz NOT NULL,
    due_at     timestamptz NOT NULL,
    attempts   smallint NOT NULL DEFAULT 0,
    sent_at    timestamptz,
    given_up   boolean NOT NULL DEFAULT false,
    error      text
);
CREATE INDEX mail_due ON mail (due_at) WHERE sent_at IS NULL AND NOT given_up;

CREATE TABLE privacy_task (
    organization_id uuid NOT NULL REFERENCES organization (id),
    id              uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('export', 'erasure')),
    subject_kind    text NOT NULL CHECK (subject_kind IN ('person', 'end_user')),
    subject_id      uuid NOT NULL,
    account         boolean NOT NULL DEFAULT false,
    state           text NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    steps_done      smallint NOT NULL DEFAULT 0,
    steps           smallint NOT NULL,
    requested_by    text NOT NULL,
    requested_at    timestamptz NOT NULL,
    finished_at     timestamptz,
    error           text,
    result          bytea,
    result_until    timestamptz,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX privacy_task_open ON privacy_task (requested_at) WHERE state IN ('waiting', 'running');

-- ------------------------------------------------------------------------------------------------ row-level security

DO $$
DECLARE
    name text;
    tenant CONSTANT text := 'organization_id = (SELECT app_organization())';
    self CONSTANT text := 'person_id = (SELECT app_person())';
BEGIN
    FOREACH name IN ARRAY ARRAY['invitation', 'jwt_issuer', 'privacy_task'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO tollhouse_web USING (%s) WITH CHECK (%s)', name, tenant, tenant);
        EXECUTE format('CREATE POLICY operator ON %I TO tollhouse_operator USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY owner ON %I TO CURRENT_USER USING (true) WITH CHECK (true)', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['password', 'totp', 'recovery_code', 'linked_identity', 'session', 'one_time_token'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY self ON %I TO tollhouse_web USING (%s) WITH CHECK (%s)', name, self, self);
        EXECUTE format('CREATE POLICY operator ON %I TO tollhouse_operator USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY owner ON %I TO CURRENT_USER USING (true) WITH CHECK (true)', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['session', 'one_time_token', 'privacy_task', 'invitation'] LOOP
        EXECUTE format('CREATE POLICY worker ON %I TO tollhouse_worker USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;
CREATE POLICY worker ON api_key TO tollhouse_worker USING (true) WITH CHECK (true);
CREATE POLICY teller ON jwt_issuer FOR SELECT TO tollhouse_teller USING (true);
CREATE POLICY teller ON member FOR SELECT TO tollhouse_teller USING (true);
CREATE POLICY teller ON person FOR SELECT TO tollhouse_teller USING (true);
DROP POLICY tenant ON person;
CREATE POLICY tenant ON person TO tollhouse_web
    USING (id = (SELECT app_person())
           OR id IN (SELECT person_id FROM member WHERE organization_id = (SELECT app_organization())))
    WITH CHECK (id = (SELECT app_person()));

GRANT SELECT ON invitation, jwt_issuer TO tollhouse_web;
GRANT SELECT, INSERT ON privacy_task TO tollhouse_web;
GRANT SELECT, INSERT, UPDATE, DELETE ON password, totp, recovery_code, linked_identity, session TO tollhouse_web;
GRANT SELECT, INSERT, UPDATE ON one_time_token TO tollhouse_web;
GRANT UPDATE (name, email, email_verified_at) ON person TO tollhouse_web;
GRANT SELECT ON identity_provider TO tollhouse_web;
GRANT SELECT, INSERT, UPDATE, DELETE ON throttle TO tollhouse_web;
GRANT INSERT ON mail, audit TO tollhouse_web;
GRANT UPDATE (retention_days) ON organization TO tollhouse_web;
GRANT SELECT (organization_id, id, expires_at, revoked_at, last_used_at), UPDATE (last_used_at) ON api_key TO tollhouse_worker;

GRANT SELECT ON jwt_issuer, member TO tollhouse_teller;
GRANT SELECT (id, suspended_at, erased_at) ON person TO tollhouse_teller;

GRANT SELECT, INSERT, UPDATE, DELETE ON invitation, jwt_issuer, identity_provider, linked_identity TO tollhouse_operator;
GRANT SELECT, INSERT, UPDATE ON privacy_task TO tollhouse_operator;
GRANT DELETE ON member TO tollhouse_operator;
GRANT INSERT, UPDATE, DELETE ON session, one_time_token, password, totp, recovery_code TO tollhouse_operator;
GRANT SELECT ON session, one_time_token TO tollhouse_operator;
GRANT SELECT (person_id, changed_at) ON password TO tollhouse_operator;
GRANT SELECT (person_id, created_at, confirmed_at) ON totp TO tollhouse_operator;
GRANT SELECT (person_id, used_at) ON recovery_code TO tollhouse_operator;
GRANT SELECT, INSERT ON mail TO tollhouse_operator;
GRANT SELECT, DELETE ON request_content, kept_answer TO tollhouse_operator;
GRANT DELETE ON mail, idempotency TO tollhouse_operator;

GRANT SELECT, DELETE ON session, one_time_token, invitation TO tollhouse_worker;
GRANT SELECT, UPDATE ON privacy_task TO tollhouse_worker;
GRANT SELECT, DELETE ON throttle TO tollhouse_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON mail TO tollhouse_worker;

-- ------------------------------------------------------------------------------- look-ups before anybody is known

-- Whose session is this? The person, and the organisation that is chosen for it with the person's role there.
CREATE FUNCTION find_session(wanted bytea)
    RETURNS TABLE (id uuid, person_id uuid, organization_id uuid, method text, created_at timestamptz, seen_at timestamptz,
                   expires_at timestamptz, proved_at timestamptz, second_factor boolean, revoked_at timestamptz,
                   impersonator_id uuid, impersonator_session_id uuid, impersonation_reason text,
                   impersonator_email text, impersonator_stands boolean, email text, name text, superadmin boolean, email_verified_at timestamptz, person_suspended_at timestamptz,
                   has_totp boolean, role text, organization_name text, organization_kind text,
                   organization_suspended_at timestamptz, organization_deleted_at timestamptz, clock_offset_micros bigint)
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
               m.role, o.name, o.kind, o.suspended_at, o.deleted_at, o.clock_offset_micros
        FROM session s JOIN person p ON p.id = s.person_id JOIN organization o ON o.id = s.organization_id
        LEFT JOIN member m ON m.organization_id = s.organization_id AND m.person_id = s.person_id
        WHERE s.digest = wanted;
    END;

-- The person of an e-mail address, when there is one.
CREATE FUNCTION find_person(wanted text)
    RETURNS TABLE (id uuid, email text, name text, superadmin boolean, email_verified_at timestamptz, suspended_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT p.id, p.email, p.name, p.superadmin, p.email_verified_at, p.suspended_at
        FROM person p WHERE p.email = wanted AND p.erased_at IS NULL;
    END;

CREATE FUNCTION find_linked_identity(wanted_provider uuid, wanted_subject text)
    RETURNS TABLE (person_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT l.person_id FROM linked_identity l
        WHERE l.provider_id = wanted_provider AND l.subject = wanted_subject;
    END;

-- Takes the token, once: who comes second gets nothing.
CREATE FUNCTION use_one_time_token(wanted bytea, wanted_purpose text, moment timestamptz)
    RETURNS TABLE (person_id uuid, email text)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public
    BEGIN ATOMIC
        UPDATE one_time_token t SET used_at = moment
        WHERE t.digest = wanted AND t.purpose = wanted_purpose AND t.used_at IS NULL AND t.expires_at > moment
        RETURNING t.person_id, t.email;
    END;

-- The same token without taking it: so that a page can say in time that a link has expired.
CREATE FUNCTION find_one_time_token(wanted bytea, wanted_purpose text, moment timestamptz)
    RETURNS TABLE (person_id uuid, email text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT t.person_id, t.email FROM one_time_token t
        WHERE t.digest = wanted AND t.purpose = wanted_purpose AND t.used_at IS NULL AND t.expires_at > moment;
    END;

CREATE FUNCTION find_invitation(wanted bytea)
    RETURNS TABLE (organization_id uuid, id uuid, organization_name text, email text, role text, invited_by text,
                   created_at timestamptz, expires_at timestamptz, accepted_at timestamptz, revoked_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT i.organization_id, i.id, o.name, i.email, i.role, i.invited_by, i.created_at, i.expires_at, i.accepted_at,
               i.revoked_at
        FROM invitation i JOIN organization o ON o.id = i.organization_id
        WHERE i.digest = wanted AND o.deleted_at IS NULL;
    END;

-- Who trusts this issuer for this audience. An organisation that is deleted trusts nobody.
CREATE FUNCTION find_jwt_issuer(wanted_issuer text, wanted_audiences text[])
    RETURNS TABLE (organization_id uuid, id uuid, issuer text, audience text, jwks_url text, user_claim text, enabled boolean,
                   suspended_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT j.organization_id, j.id, j.issuer, j.audience, j.jwks_url, j.user_claim, j.enabled, o.suspended_at
        FROM jwt_issuer j JOIN organization o ON o.id = j.organization_id
        WHERE j.issuer = wanted_issuer AND j.audience = ANY (wanted_audiences) AND o.deleted_at IS NULL;
    END;

-- The organisations of the person of the transaction, and of nobody else.
CREATE FUNCTION own_organizations()
    RETURNS TABLE (id uuid, name text, kind text, role text, plan_id text, suspended_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT o.id, o.name, o.kind, m.role, o.plan_id, o.suspended_at
        FROM member m JOIN organization o ON o.id = m.organization_id
        WHERE m.person_id = (SELECT app_person()) AND o.deleted_at IS NULL
        ORDER BY o.kind, lower(o.name), o.id;
    END;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['find_session(bytea)', 'find_person(text)', 'find_linked_identity(uuid, text)',
                                'use_one_time_token(bytea, text, timestamptz)', 'find_one_time_token(bytea, text, timestamptz)',
                                'find_invitation(bytea)',
                                'find_jwt_issuer(text, text[])', 'own_organizations()'] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO tollhouse_web, tollhouse_operator', name);
    END LOOP;
END $$;

-- A key of an organisation that is deleted works no more.
CREATE OR REPLACE FUNCTION find_api_key(wanted bytea)
    RETURNS TABLE (organization_id uuid, id uuid, scopes text[], mode text, expires_at timestamptz, revoked_at timestamptz,
                   clock_offset_micros bigint, suspended_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT k.organization_id, k.id, k.scopes, k.mode, k.expires_at, k.revoked_at, o.clock_offset_micros, o.suspended_at
        FROM api_key k JOIN organization o ON o.id = k.organization_id
        WHERE k.digest = wanted AND o.deleted_at IS NULL;
    END;

-- They run as their owner and plan anew with every call: a temporary table of the caller's must not stand in for ours.
ALTER FUNCTION raise_catalogue_version() SET search_path = pg_catalog, public, pg_temp;
ALTER FUNCTION create_usage_partitions(timestamptz, timestamptz) SET search_path = pg_catalog, public, pg_temp;
