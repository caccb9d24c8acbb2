-- The whole schema of Tollhouse. The migrations arrive at the same (tests/test_migrations.py compares them).
--
-- Units stand in the names: *_micros are millionths of a credit, *_nanos are billionths of a US dollar.
-- Periods are half-open: starts_at <= moment < ends_at. Times are UTC.
-- Tables written on every call (request, attempt, reservation, credit_transaction, usage_event, quota_window) carry no foreign
-- keys: each costs about 5 us per row in the teller's transaction. The teller writes them under the organisation's lock, and
-- the ledger proof (store/proof.py) checks every such link.

-- ---------------------------------------------------------------------------------------------------------------- roles

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tollhouse_web', 'tollhouse_teller', 'tollhouse_worker', 'tollhouse_operator'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOINHERIT', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- roles belong to the server: another database of ours made it
        END;
        IF NOT pg_has_role(current_user, name, 'SET') THEN
            EXECUTE format('GRANT %I TO current_user', name);
        END IF;
    END LOOP;
END $$;

-- The tenant of the transaction; no context means NULL, and NULL equals no row. A transaction-local setting reads '' and
-- not NULL once its transaction is over, hence nullif.
CREATE FUNCTION app_organization() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog
    RETURN nullif(current_setting('tollhouse.organization_id', true), '')::uuid;

-- The person of the transaction, like app_organization().
CREATE FUNCTION app_person() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog
    RETURN nullif(current_setting('tollhouse.person_id', true), '')::uuid;

CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;

-- ------------------------------------------------------------------------------------------------------------ catalogue
-- Reference tables, the same for every tenant. Any change raises catalogue_version, by which the teller knows in its own
-- transaction whether the catalogue it holds in memory is still the true one.

CREATE TABLE catalogue_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint  NOT NULL DEFAULT 1
);
INSERT INTO catalogue_version DEFAULT VALUES;

-- As its owner, so pg_temp comes last: a temporary table of the caller's must not stand in for ours.
CREATE FUNCTION raise_catalogue_version() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE catalogue_version SET version = version + 1;
    RETURN NULL;
END $$;

CREATE TABLE plan (
    id                     text PRIMARY KEY,
    name                   text     NOT NULL,
    rank                   smallint NOT NULL UNIQUE,
    monthly_credits_micros bigint   NOT NULL CHECK (monthly_credits_micros >= 0),
    welcome_bonus_micros   bigint   NOT NULL DEFAULT 0 CHECK (welcome_bonus_micros >= 0),
    monthly_tokens         bigint   CHECK (monthly_tokens > 0),      -- NULL: no quota
    daily_messages         integer  CHECK (daily_messages > 0),      -- NULL: unlimited
    max_output_tokens      integer  NOT NULL CHECK (max_output_tokens > 0),
    charged_channels       text[]   NOT NULL CHECK (charged_channels <@ ARRAY['chat', 'api', 'capability']),
    price_cents            integer  CHECK (price_cents >= 0),        -- per month; NULL: on request
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now(),
    own_models_max         integer DEFAULT 10 CHECK (own_models_max >= 0)   -- models at endpoints of one's own; NULL: unlimited
);

CREATE TABLE provider (
    id       text PRIMARY KEY,
    name     text NOT NULL,
    protocol text NOT NULL CHECK (protocol IN ('openai', 'anthropic', 'google', 'sandbox')),
    base_url text                                                    -- where the vendor's own API lives; NULL: must be configured
);

CREATE TABLE model (
    id                   text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9._-]{0,79}$'),
    provider_id          text    NOT NULL REFERENCES provider (id),
    provider_model_id    text    NOT NULL,
    display_name         text    NOT NULL,
    description          text    NOT NULL DEFAULT '',
    enabled              boolean NOT NULL DEFAULT true,
    selectable           boolean NOT NULL DEFAULT true,              -- may be asked for by name; else only through a capability
    tier                 text    NOT NULL CHECK (tier IN ('free', 'premium')),
    price_cents          integer CHECK (price_cents > 0),            -- to unlock, once
    stripe_product_id    text,
    stripe_price_id      text,
    metadata             jsonb   NOT NULL DEFAULT '{}',              -- speed, quality, context_window, cost_per_1m_tokens, best_for[]
    daily_messages       integer CHECK (daily_messages > 0),         -- per person; NULL: unlimited
    trial_messages       integer NOT NULL DEFAULT 0 CHECK (trial_messages >= 0),
    quality_tier         text    CHECK (quality_tier IN ('fast', 'balanced', 'powerful')),
    context_window       integer NOT NULL CHECK (context_window > 0),
    max_output_tokens    integer NOT NULL CHECK (max_output_tokens > 0),
    deprecated_at        timestamptz,
    replacement_model_id text REFERENCES model (id),
    sort_order           integer NOT NULL DEFAULT 0,
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    kind                 text    NOT NULL DEFAULT 'chat' CHECK (kind IN ('chat', 'embedding')),
    is_default           boolean NOT NULL DEFAULT false,             -- the system default: asked last of all, one at most
    CHECK (tier = 'premium' OR price_cents IS NULL)
);
CREATE UNIQUE INDEX model_one_default ON model (is_default) WHERE is_default;
CREATE INDEX model_enabled ON model (sort_order, id) WHERE enabled;
CREATE INDEX model_tier ON model (tier);
CREATE INDEX model_provider_quality ON model (provider_id, quality_tier);

-- What a model costs us. A new price is a new version; a reservation is settled by the version it was quoted at.
CREATE TABLE model_price (
    model_id                       text    NOT NULL REFERENCES model (id),
    version                        integer NOT NULL CHECK (version > 0),
    effective_from                 timestamptz NOT NULL,
    free                           boolean NOT NULL DEFAULT false,    -- "costs nothing" is said, never inferred from a zero
    input_nanos_per_million        bigint  NOT NULL CHECK (input_nanos_per_million >= 0),
    cached_input_nanos_per_million bigint  NOT NULL CHECK (cached_input_nanos_per_million >= 0),
    output_nanos_per_million       bigint  NOT NULL CHECK (output_nanos_per_million >= 0),
    request_nanos                  bigint  NOT NULL DEFAULT 0 CHECK (request_nanos >= 0),
    note                           text    NOT NULL DEFAULT '',
    reasoning_nanos_per_million    bigint  CHECK (reasoning_nanos_per_million >= 0),      -- NULL: like other output
    cache_write_nanos_per_million  bigint  CHECK (cache_write_nanos_per_million >= 0),    -- NULL: like other input
    source                         text    NOT NULL DEFAULT 'operator' CHECK (source IN ('seed', 'operator', 'import')),
    PRIMARY KEY (model_id, version),
    CONSTRAINT model_price_free_wholly
        CHECK (NOT free OR (coalesce(reasoning_nanos_per_million, 0) = 0 AND coalesce(cache_write_nanos_per_million, 0) = 0)),
    CHECK (free = (input_nanos_per_million = 0 AND output_nanos_per_million = 0
                   AND cached_input_nanos_per_million = 0 AND request_nanos = 0))
);

-- How many credits a dollar of cost is worth, from a date on, and what share of a charge is taken where it costs us less.
CREATE TABLE rate_card (
    version            integer PRIMARY KEY CHECK (version > 0),
    effective_from     timestamptz NOT NULL,
    micros_per_usd     bigint  NOT NULL CHECK (micros_per_usd > 0),
    markup_permille    integer NOT NULL DEFAULT 1000 CHECK (markup_permille > 0),                    -- 1000: at cost
    own_key_permille   integer NOT NULL DEFAULT 0 CHECK (own_key_permille BETWEEN 0 AND 1000),       -- over the organisation's own connection
    cache_hit_permille integer NOT NULL DEFAULT 100 CHECK (cache_hit_permille BETWEEN 0 AND 1000),   -- from the organisation's answer cache
    note               text    NOT NULL DEFAULT ''
);

CREATE TABLE quality_level (
    id                  text PRIMARY KEY,
    name                text     NOT NULL,
    description         text     NOT NULL DEFAULT '',
    display_order       smallint NOT NULL,
    multiplier_permille integer  NOT NULL CHECK (multiplier_permille > 0),  -- 1000: the capability's estimate as it stands
    is_active           boolean  NOT NULL DEFAULT true,
    created_at          timestamptz NOT NULL DEFAULT now()
);
-- Multipliers that come with a rate card; those that it does not name stay as the quality level says.
CREATE TABLE rate_card_multiplier (
    rate_version        integer NOT NULL REFERENCES rate_card (version),
    quality_id          text    NOT NULL REFERENCES quality_level (id),
    multiplier_permille integer NOT NULL CHECK (multiplier_permille > 0),
    PRIMARY KEY (rate_version, quality_id)
);

CREATE TABLE capability (
    id               text PRIMARY KEY,
    name             text    NOT NULL,
    description      text    NOT NULL DEFAULT '',
    category         text    NOT NULL DEFAULT '',
    icon             text    NOT NULL DEFAULT '',
    estimated_micros bigint  NOT NULL CHECK (estimated_micros > 0),         -- at multiplier 1000
    is_active        boolean NOT NULL DEFAULT true,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    instructions     text    NOT NULL DEFAULT '',                           -- to the model; '': only reserved for, never run here
    input_schema     jsonb,                                                 -- JSON schema of what is sent to be run
    answer_schema    jsonb,                                                 -- JSON schema of the answer
    max_output_tokens integer NOT NULL DEFAULT 1024 CHECK (max_output_tokens > 0),
    CONSTRAINT capability_runs_whole CHECK (instructions = '' OR (input_schema IS NOT NULL AND answer_schema IS NOT NULL))
);

CREATE TABLE plan_capability (
    plan_id             text    NOT NULL REFERENCES plan (id),
    capability_id       text    NOT NULL REFERENCES capability (id),
    is_enabled          boolean NOT NULL DEFAULT true,
    requests_per_minute integer CHECK (requests_per_minute > 0),            -- NULL: unlimited
    requests_per_day    integer CHECK (requests_per_day > 0),
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan_id, capability_id)
);
CREATE INDEX plan_capability_by_capability ON plan_capability (capability_id);

CREATE TABLE plan_capability_quality (
    plan_id       text NOT NULL,
    capability_id text NOT NULL,
    quality_id    text NOT NULL REFERENCES quality_level (id),
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan_id, capability_id, quality_id),
    FOREIGN KEY (plan_id, capability_id) REFERENCES plan_capability (plan_id, capability_id) ON DELETE CASCADE
);
CREATE INDEX plan_capability_quality_by_quality ON plan_capability_quality (quality_id);

CREATE TABLE plan_capability_model (
    plan_id       text     NOT NULL,
    capability_id text     NOT NULL,
    quality_id    text     NOT NULL,
    model_id      text     NOT NULL REFERENCES model (id) ON DELETE CASCADE,
    is_default    boolean  NOT NULL DEFAULT false,
    priority      smallint NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan_id, capability_id, quality_id, model_id),
    FOREIGN KEY (plan_id, capability_id, quality_id)
        REFERENCES plan_capability_quality (plan_id, capability_id, quality_id) ON DELETE CASCADE
);

-- A share of those who ask for a model ('auto' too), or for a capability at a quality, gets another model. Who gets which follows
-- from the person and the experiment, so it stays the same.
CREATE TABLE experiment (
    id            uuid PRIMARY KEY,
    name          text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 100),
    model_id      text,                                              -- what is asked for: a model's id or 'auto' ...
    capability_id text,                                              -- ... or a capability at a quality
    quality_id    text,
    starts_at     timestamptz NOT NULL,
    ends_at       timestamptz,
    created_at    timestamptz NOT NULL,
    CHECK ((model_id IS NULL) = (capability_id IS NOT NULL)),
    CHECK ((capability_id IS NULL) = (quality_id IS NULL)),
    CHECK (ends_at > starts_at),
    FOREIGN KEY (capability_id) REFERENCES capability (id),
    FOREIGN KEY (quality_id) REFERENCES quality_level (id)
);
CREATE TABLE experiment_arm (
    experiment_id uuid    NOT NULL REFERENCES experiment (id) ON DELETE CASCADE,
    model_id      text    NOT NULL REFERENCES model (id),
    weight        integer NOT NULL CHECK (weight BETWEEN 1 AND 10000),
    PRIMARY KEY (experiment_id, model_id)
);
CREATE UNIQUE INDEX plan_capability_model_default ON plan_capability_model (plan_id, capability_id, quality_id) WHERE is_default;
CREATE INDEX plan_capability_model_by_model ON plan_capability_model (model_id);

CREATE TABLE topup_package (
    id             text PRIMARY KEY,
    name           text     NOT NULL,
    description    text     NOT NULL DEFAULT '',
    credits_micros bigint   NOT NULL CHECK (credits_micros > 0),
    price_cents    integer  NOT NULL CHECK (price_cents > 0),
    is_active      boolean  NOT NULL DEFAULT true,
    display_order  smallint NOT NULL
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['plan', 'provider', 'model', 'model_price', 'rate_card', 'quality_level', 'capability',
                                'plan_capability', 'plan_capability_quality', 'plan_capability_model',
                                'rate_card_multiplier', 'experiment', 'experiment_arm'] LOOP
        EXECUTE format('CREATE TRIGGER catalogue_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION raise_catalogue_version()', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['plan', 'model', 'capability', 'plan_capability'] LOOP
        EXECUTE format('CREATE TRIGGER touch BEFORE UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION touch_updated_at()', name);
    END LOOP;
END $$;

-- ----------------------------------------------------------------------------------------- organisations, people, keys

CREATE TABLE organization (
    id                  uuid PRIMARY KEY,
    name                text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    kind                text        NOT NULL CHECK (kind IN ('platform', 'personal', 'team')),
    business_type       text        NOT NULL DEFAULT 'general',
    plan_id             text        NOT NULL REFERENCES plan (id),
    pending_plan_id     text        REFERENCES plan (id),              -- applied at the end of the period
    period_anchor       timestamptz NOT NULL,                          -- period n begins n months after this
    clock_offset_micros bigint      NOT NULL DEFAULT 0 CHECK (clock_offset_micros >= 0), -- test clock: microseconds ahead of real time
    suspended_at        timestamptz,
    created_at          timestamptz NOT NULL,
    cache_ttl_s         integer CHECK (cache_ttl_s BETWEEN 1 AND 2592000), -- how long answers are kept to be given again; NULL: not at all
    stores_content      boolean NOT NULL DEFAULT false,                -- prompts and answers are stored
    retention_days      integer NOT NULL DEFAULT 30 CHECK (retention_days BETWEEN 1 AND 3650), -- how long they are kept
    deleted_at          timestamptz,                                   -- nobody gets in any more; its books stay
    chat_retention_days integer CHECK (chat_retention_days BETWEEN 1 AND 3650) -- after so long without a message a chat is deleted; NULL: never
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX organization_one_platform ON organization (kind) WHERE kind = 'platform';

CREATE TABLE person (
    id         uuid PRIMARY KEY,
    email      text NOT NULL CHECK (email = lower(email) AND length(email) <= 254),
    name       text NOT NULL DEFAULT '',
    superadmin boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    email_verified_at timestamptz,
    suspended_at      timestamptz,
    erased_at         timestamptz,                             -- name and address are gone, the id stays as a pseudonym
    language          text CHECK (language ~ '^[a-z]{2}$'),    -- of pages; NULL: as the browser asks
    CONSTRAINT person_name CHECK (length(name) <= 200)
);
CREATE UNIQUE INDEX person_email ON person (email);

CREATE TABLE member (
    organization_id uuid NOT NULL REFERENCES organization (id),
    person_id       uuid NOT NULL REFERENCES person (id),
    role            text NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, person_id)
);
CREATE INDEX member_person ON member (person_id);

-- A user of a host application, known to us only by that application's own id. The id is derived from both
-- (core/key.py end_user_id), so seeing somebody for the first time needs no look-up.
CREATE TABLE end_user (
    organization_id uuid NOT NULL REFERENCES organization (id),
    id              uuid NOT NULL,
    external_id     text NOT NULL CHECK (length(external_id) BETWEEN 1 AND 200),
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, external_id)
);

CREATE TABLE api_key (
    organization_id uuid   NOT NULL REFERENCES organization (id),
    id              uuid   NOT NULL,
    name            text   NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    digest          bytea  NOT NULL,                                   -- HMAC-SHA256 of the key; the key itself is shown once
    start           text   NOT NULL,                                   -- th_test_ab12: enough to recognise it
    scopes          text[] NOT NULL CHECK (scopes <@ ARRAY['gateway', 'credits', 'manage', 'act_as', 'operator']),
    mode            text   NOT NULL CHECK (mode IN ('test', 'live')),
    expires_at      timestamptz,
    revoked_at      timestamptz,
    created_at      timestamptz NOT NULL,
    model_ids       text[],                                            -- the models that it may call; NULL: all
    last_used_at    timestamptz,                                       -- to the minute
    created_by      text   NOT NULL DEFAULT 'system',
    replaced_by     uuid,                                              -- the key that was made in its place
    counts_as       uuid,                                              -- the first of those that replaced one another: limits count it as that key; NULL: as itself
    networks        text[],                                            -- from which addresses it may come, such as 192.0.2.0/24; NULL: any
    PRIMARY KEY (organization_id, id)
);
CREATE UNIQUE INDEX api_key_digest ON api_key (digest);

CREATE TABLE connection (
    organization_id uuid    NOT NULL REFERENCES organization (id),     -- the platform's, or an organisation's own
    id              uuid    NOT NULL,
    provider_id     text    NOT NULL REFERENCES provider (id),
    base_url        text    NOT NULL,
    key_ciphertext  bytea,                                             -- AES-256-GCM; NULL: this server wants no key
    origin          text    NOT NULL CHECK (origin IN ('environment', 'operator', 'organization')),
    enabled         boolean NOT NULL DEFAULT true,
    created_at      timestamptz NOT NULL,
    name            text    NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    key_hint        text,                                              -- its last characters, to tell keys apart
    priority        smallint NOT NULL DEFAULT 0,                       -- of several for one provider the lowest is asked first
    updated_at      timestamptz,
    PRIMARY KEY (organization_id, id)
);
CREATE UNIQUE INDEX connection_from_environment ON connection (organization_id, provider_id) WHERE origin = 'environment';
CREATE TRIGGER catalogue_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON connection
    FOR EACH STATEMENT EXECUTE FUNCTION raise_catalogue_version();

-- What the last check of a connection found; apart, so that a check does not change the catalogue.
CREATE TABLE connection_health (
    organization_id uuid    NOT NULL,
    connection_id   uuid    NOT NULL,
    checked_at      timestamptz NOT NULL,
    error           text,                                              -- NULL: it answers
    duration_ms     integer NOT NULL,
    failures        integer NOT NULL DEFAULT 0,                        -- in a row
    PRIMARY KEY (organization_id, connection_id),
    FOREIGN KEY (organization_id, connection_id) REFERENCES connection (organization_id, id) ON DELETE CASCADE
);

-- The right to use a premium model: of everybody in the organisation (subject_id NULL) or of one person or end user.
CREATE TABLE entitlement (
    organization_id uuid NOT NULL REFERENCES organization (id),
    id              uuid NOT NULL,
    subject_id      uuid,
    model_id        text NOT NULL REFERENCES model (id),
    source          text NOT NULL CHECK (source IN ('purchase', 'admin_grant', 'trial')),
    note            text NOT NULL DEFAULT '',
    starts_at       timestamptz NOT NULL,
    expires_at      timestamptz,
    revoked_at      timestamptz,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX entitlement_of ON entitlement (organization_id, model_id, subject_id) WHERE revoked_at IS NULL;

-- Rules besides those that the plan and the model bring. subject_id NULL: each person of the organisation.
CREATE TABLE usage_limit (
    organization_id uuid   NOT NULL REFERENCES organization (id),
    id              uuid   NOT NULL,
    scope           text   NOT NULL CHECK (scope IN ('organization', 'person', 'key')),
    subject_id      uuid,
    model_id        text   REFERENCES model (id),
    meter           text   NOT NULL,
    period          text   NOT NULL,
    maximum         bigint NOT NULL CHECK (maximum >= 0),
    created_at      timestamptz NOT NULL,                              -- the organisation's time: it counts from then on
    ended_at        timestamptz,                                       -- replaced or taken back: binds no more, its counters stay
    PRIMARY KEY (organization_id, id),
    CONSTRAINT usage_limit_meter_check CHECK (meter IN ('messages', 'tokens', 'credits')), -- credits in millionths
    CONSTRAINT usage_limit_period_check CHECK (period IN ('minute', 'day', 'week', 'month', 'lifetime'))
);
CREATE INDEX usage_limit_in_force ON usage_limit (organization_id) WHERE ended_at IS NULL;

-- --------------------------------------------------------------------------------------------------------------- ledger

-- One row per organisation: what its grants hold together. Kept in the transaction that changes a grant, never computed.
CREATE TABLE credit_balance (
    organization_id           uuid   PRIMARY KEY REFERENCES organization (id),
    remaining_micros          bigint NOT NULL DEFAULT 0 CHECK (remaining_micros >= 0),          -- sum over active grants
    reserved_micros           bigint NOT NULL DEFAULT 0 CHECK (reserved_micros BETWEEN 0 AND remaining_micros),
    debt_micros               bigint NOT NULL DEFAULT 0 CHECK (debt_micros >= 0),
    overdraft_limit_micros    bigint NOT NULL DEFAULT 0 CHECK (overdraft_limit_micros >= 0),
    overdraft_reserved_micros bigint NOT NULL DEFAULT 0 CHECK (overdraft_reserved_micros >= 0),
    allocated_micros          bigint NOT NULL DEFAULT 0,        -- highest monthly allocation given in this period
    seq                       bigint NOT NULL DEFAULT 0,        -- of the last transaction
    period_start              timestamptz NOT NULL,
    period_end                timestamptz NOT NULL,
    next_due_at               timestamptz NOT NULL,             -- earliest of: period end, a grant's begin or end
    low_armed                 boolean NOT NULL DEFAULT true,    -- a notice of its kind goes out at the next crossing
    depleted_armed            boolean NOT NULL DEFAULT true,
    period_seq                bigint NOT NULL DEFAULT 0,        -- of the last transaction before this period
    CHECK (period_start < period_end)
) WITH (fillfactor = 50);
CREATE INDEX credit_balance_due ON credit_balance (next_due_at);

CREATE TABLE credit_grant (
    organization_id  uuid     NOT NULL REFERENCES organization (id),
    id               uuid     NOT NULL,
    source           text     NOT NULL CHECK (source IN ('plan', 'plan_change', 'welcome', 'promo', 'topup', 'adjustment')),
    priority         smallint NOT NULL CHECK (priority BETWEEN 0 AND 100),
    paid             boolean  NOT NULL,
    amount_micros    bigint   NOT NULL CHECK (amount_micros > 0),
    remaining_micros bigint   NOT NULL CHECK (remaining_micros BETWEEN 0 AND amount_micros),
    reserved_micros  bigint   NOT NULL DEFAULT 0 CHECK (reserved_micros BETWEEN 0 AND remaining_micros),
    active           boolean  NOT NULL,                         -- false: begins later, counts in no balance yet
    effective_at     timestamptz NOT NULL,
    expires_at       timestamptz,                               -- exclusive; NULL: never
    period_start     timestamptz,                               -- of a monthly allocation
    plan_id          text,                                      -- of an allocation or a welcome bonus
    note             text     NOT NULL DEFAULT '',
    created_at       timestamptz NOT NULL,
    spent            boolean  GENERATED ALWAYS AS (remaining_micros = 0) STORED, -- for the indexes: an update that leaves a rest touches none
    PRIMARY KEY (organization_id, id),
    CHECK (effective_at < expires_at)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX credit_grant_one_allocation ON credit_grant (organization_id, period_start) WHERE source = 'plan';
CREATE UNIQUE INDEX credit_grant_one_welcome ON credit_grant (organization_id, plan_id) WHERE source = 'welcome';
-- The burn order: monthly before promotional before paid for, what ends first before what ends later.
CREATE INDEX credit_grant_burn_order ON credit_grant (organization_id, priority, expires_at, paid, effective_at, created_at, id)
    WHERE active AND NOT spent;
CREATE INDEX credit_grant_ends ON credit_grant (organization_id, expires_at) WHERE active AND NOT spent;
CREATE INDEX credit_grant_begins ON credit_grant (organization_id, effective_at) WHERE NOT active;

CREATE TABLE credit_transaction (
    organization_id      uuid   NOT NULL,
    seq                  bigint NOT NULL,                        -- 1, 2, 3 ... per organisation, without a hole
    id                   uuid   NOT NULL,
    type                 text   NOT NULL,
    amount_micros        bigint NOT NULL,
    balance_after_micros bigint NOT NULL,                        -- remaining of all grants less debt
    grant_id             uuid,                                   -- NULL: it made or paid debt
    reservation_id       uuid,
    estimation_variance_micros bigint,                           -- charged less reserved, on the first row of a settlement
    note                 text   NOT NULL DEFAULT '',
    actor                text   NOT NULL,
    created_at           timestamptz NOT NULL,
    PRIMARY KEY (organization_id, seq),
    CHECK (type IN ('plan_allocation', 'welcome_bonus', 'promo_bonus', 'topup_purchase', 'ai_consumption', 'late_settle',
                    'correction', 'plan_change_adjustment', 'expiry', 'refund_clawback', 'dispute_clawback',
                    'dispute_reinstated', 'admin_adjustment', 'debt_repayment')),
    CHECK (CASE WHEN type IN ('plan_allocation', 'welcome_bonus', 'promo_bonus', 'topup_purchase', 'dispute_reinstated')
                THEN amount_micros > 0
                WHEN type IN ('ai_consumption', 'late_settle', 'expiry', 'refund_clawback', 'dispute_clawback')
                THEN amount_micros < 0
                ELSE amount_micros <> 0 END)
);
CREATE INDEX credit_transaction_by_type ON credit_transaction (organization_id, type, seq);

CREATE TABLE reservation (
    organization_id  uuid   NOT NULL,
    id               uuid   NOT NULL,
    key_id           uuid,
    subject_id       uuid   NOT NULL,                            -- whose limits it took: a person, an end user, or the organisation
    channel          text   NOT NULL CHECK (channel IN ('chat', 'api', 'capability')),
    capability       text,
    quality          text,
    model_id         text,
    price_version    integer,
    rate_version     integer,
    multiplier_permille integer NOT NULL DEFAULT 1000,
    charged          boolean NOT NULL,                           -- false: the plan takes no credits on this channel
    trial            boolean NOT NULL DEFAULT false,
    amount_micros    bigint NOT NULL CHECK (amount_micros >= 0),
    parts            jsonb  NOT NULL,  -- {"grants": [[grant id, micros]...], "overdraft": micros, "windows": [[window id, meter, amount]...]}
    state            text   NOT NULL CHECK (state IN ('pending', 'settled', 'released', 'expired')),
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    charged_micros   bigint CHECK (charged_micros >= 0),
    closed_at        timestamptz,
    reason           text,                                       -- of a release
    metadata         jsonb,                                      -- the host application's own words about it
    CHECK ((state = 'pending') = (closed_at IS NULL)),
    CHECK (state <> 'settled' OR charged_micros IS NOT NULL),
    PRIMARY KEY (organization_id, id)
) WITH (fillfactor = 70);
CREATE INDEX reservation_open ON reservation (expires_at) WHERE state = 'pending';

-- The counter of one subject in one period. The id is derived from everything it is about (core/quota.py), so windows need
-- no look-up before they exist and no job when a period ends.
CREATE TABLE quota_window (
    organization_id uuid   NOT NULL,
    id              uuid   NOT NULL,
    subject_id      uuid   NOT NULL,
    meter           text   NOT NULL,
    model_id        text   NOT NULL DEFAULT '',
    period          text   NOT NULL,
    starts_at       timestamptz NOT NULL,
    used            bigint NOT NULL CHECK (used >= 0),
    reserved        bigint NOT NULL CHECK (reserved >= 0),
    capability      text   NOT NULL DEFAULT '',
    limit_id        uuid,                                        -- the usage_limit it counts for; NULL: a plan's or a model's
    PRIMARY KEY (organization_id, id)
) WITH (fillfactor = 50);

-- Requests of the last minute by the second, for limits per minute: never more than the limit in any sixty seconds.
CREATE TABLE request_rate (
    organization_id uuid  NOT NULL,
    id              uuid  NOT NULL,                              -- derived like that of a window
    subject_id      uuid  NOT NULL,
    seconds         jsonb NOT NULL,                              -- [[epoch second, requests]...], oldest first
    PRIMARY KEY (organization_id, id)
) WITH (fillfactor = 50);

-- ---------------------------------------------------------------------------------------------------- calls and usage

CREATE TABLE request (
    organization_id uuid    NOT NULL,
    id              uuid    NOT NULL,                            -- the id of its reservation, and the x-request-id
    key_id          uuid,
    subject_id      uuid    NOT NULL,
    endpoint        text    NOT NULL,
    channel         text    NOT NULL,
    model_id        text    NOT NULL,
    stream          boolean NOT NULL,
    state           text    NOT NULL CHECK (state IN ('running', 'done', 'incomplete', 'failed')),
    client_left     boolean NOT NULL DEFAULT false,
    error           text,
    created_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    asked_model     text,                                        -- what the caller named: a model or 'auto'
    reason          text,                                        -- why this model, where it was not the one named
    experiment_id   uuid,
    CHECK ((state = 'running') = (finished_at IS NULL)),
    PRIMARY KEY (organization_id, id)
) WITH (fillfactor = 70);

CREATE INDEX request_experiment ON request (experiment_id, created_at) WHERE experiment_id IS NOT NULL;
CREATE TABLE attempt (
    organization_id uuid     NOT NULL,
    request_id      uuid     NOT NULL,
    number          smallint NOT NULL,
    model_id        text     NOT NULL,
    provider_id     text     NOT NULL,
    connection_id   uuid,                                        -- NULL: the sandbox
    started_at      timestamptz NOT NULL,
    first_byte_at   timestamptz,
    finished_at     timestamptz,
    outcome         text     CHECK (outcome IN ('answered', 'incomplete', 'failed')),
    status          smallint,
    input_tokens    bigint,                                      -- last checkpoint while it runs, the final count after
    output_tokens   bigint,
    cost_nanos      bigint,
    error           text,
    own_key         boolean  NOT NULL DEFAULT false,             -- over a connection of the organisation's own
    PRIMARY KEY (organization_id, request_id, number)
) WITH (fillfactor = 70);

CREATE TABLE usage_event (
    organization_id     uuid     NOT NULL,
    id                  uuid     NOT NULL,
    recorded_at         timestamptz NOT NULL,                    -- real time, whatever the organisation's test clock says
    started_at          timestamptz NOT NULL,                    -- the organisation's time: decides which window it counts in
    reservation_id      uuid     NOT NULL,
    subject_id          uuid     NOT NULL,
    key_id              uuid,
    channel             text     NOT NULL,
    capability          text,
    quality             text,
    model_id            text,
    provider_id         text,
    price_version       integer,
    rate_version        integer,
    multiplier_permille integer  NOT NULL,
    messages            smallint NOT NULL,
    input_tokens        bigint   NOT NULL CHECK (input_tokens >= 0),
    cached_input_tokens bigint   NOT NULL CHECK (cached_input_tokens BETWEEN 0 AND input_tokens),
    output_tokens       bigint   NOT NULL CHECK (output_tokens >= 0),
    reasoning_tokens    bigint   NOT NULL CHECK (reasoning_tokens >= 0),
    trial               boolean  NOT NULL,
    estimated           boolean  NOT NULL,                       -- the provider did not say; counted by us
    cost_nanos          bigint   NOT NULL CHECK (cost_nanos >= 0),
    charged_micros      bigint   NOT NULL CHECK (charged_micros >= 0),
    duration_ms         integer,
    first_token_ms      integer,
    cache_write_tokens  bigint   NOT NULL DEFAULT 0,
    origin              text     NOT NULL DEFAULT 'provider',     -- what it cost us: the provider's price; nothing over the own_key or from the cache
    CONSTRAINT usage_event_input CHECK (cache_write_tokens BETWEEN 0 AND input_tokens - cached_input_tokens),
    CONSTRAINT usage_event_origin CHECK (origin IN ('provider', 'own_key', 'cache')),
    PRIMARY KEY (organization_id, id, recorded_at)
) PARTITION BY RANGE (recorded_at);
CREATE INDEX usage_event_by_time ON usage_event (organization_id, recorded_at);
-- What somebody used themselves, summed from the index alone. Calls with an API key are nobody's own: they do not pay for it.
CREATE INDEX usage_event_own ON usage_event (organization_id, subject_id, recorded_at)
    INCLUDE (reservation_id, model_id, messages, input_tokens, output_tokens, charged_micros, cost_nanos) WHERE key_id IS NULL;
CREATE TABLE usage_event_default PARTITION OF usage_event DEFAULT;
ALTER TABLE usage_event_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_event_default FORCE ROW LEVEL SECURITY;

-- Makes the monthly partitions from this month up to that of `until`; safe to run any number of times.
CREATE FUNCTION create_usage_partitions(since timestamptz, until timestamptz) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    month timestamptz := date_trunc('month', since);
    partition text;
BEGIN
    WHILE month <= until LOOP
        partition := 'usage_event_' || to_char(month, 'YYYY_MM');
        -- a month that has begun in the default partition stays there: PostgreSQL would not part it
        IF to_regclass('public.' || partition) IS NULL AND NOT EXISTS (
            SELECT FROM public.usage_event
            WHERE recorded_at >= month AND recorded_at < month + interval '1 month') THEN
            EXECUTE format('CREATE TABLE public.%I PARTITION OF public.usage_event FOR VALUES FROM (%L) TO (%L)',
                           partition, month, month + interval '1 month');
            EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', partition);
            EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', partition);
        END IF;
        month := month + interval '1 month';
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION create_usage_partitions FROM PUBLIC;

-- ------------------------------------------------------------------------------------------- idempotency and audit

CREATE TABLE idempotency (
    organization_id uuid     NOT NULL,
    endpoint        text     NOT NULL,
    key             text     NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    body_hash       bytea    NOT NULL,
    status          smallint,                                    -- NULL: still running
    response        jsonb,
    created_at      timestamptz NOT NULL,
    reservation_id  uuid,                                        -- of the call that it is, once admitted
    PRIMARY KEY (organization_id, endpoint, key),
    CONSTRAINT idempotency_answered CHECK ((status IS NULL) = (response IS NULL) AND (status IS NOT NULL OR reservation_id IS NOT NULL))
);

-- Answers that an organisation has kept, to be given again to equal requests.
CREATE TABLE kept_answer (
    organization_id uuid    NOT NULL,
    key             bytea   NOT NULL,                            -- SHA-256 of the request without what cannot change the answer
    model_id        text    NOT NULL,
    answer          jsonb   NOT NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    request_id      uuid,                                        -- the request that it was the answer to
    PRIMARY KEY (organization_id, key)
);
CREATE INDEX kept_answer_expires ON kept_answer (expires_at);

-- Prompts and answers of organisations that turned storing on.
CREATE TABLE request_content (
    organization_id uuid    NOT NULL,
    request_id      uuid    NOT NULL,
    prompt          jsonb   NOT NULL,
    answer          jsonb,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, request_id)
);
CREATE INDEX request_content_created ON request_content (created_at);

-- Told once per organisation, kind and UTC day, in the commit that took the credits.
CREATE TABLE notice (
    organization_id  uuid   NOT NULL,
    kind             text   NOT NULL CHECK (kind IN ('low_balance', 'depleted')),
    day              date   NOT NULL,                            -- the organisation's own
    available_micros bigint NOT NULL,
    threshold_micros bigint NOT NULL,
    created_at       timestamptz NOT NULL,
    mailed_at        timestamptz,
    PRIMARY KEY (organization_id, kind, day)
);
CREATE INDEX notice_unmailed ON notice (created_at) WHERE mailed_at IS NULL;

-- Usage of a day by who, what and how; only of days that are over. Recomputed from the events, never counted up.
CREATE TABLE usage_day (
    organization_id     uuid   NOT NULL,
    day                 date   NOT NULL,                         -- UTC, of usage_event.recorded_at
    subject_id          uuid   NOT NULL,
    channel             text   NOT NULL,
    capability          text   NOT NULL,                         -- '': none
    model_id            text   NOT NULL,                         -- '': none
    requests            bigint NOT NULL,
    messages            bigint NOT NULL,
    trial_messages      bigint NOT NULL,
    estimated           bigint NOT NULL,                         -- requests whose usage the provider did not say
    input_tokens        bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    output_tokens       bigint NOT NULL,
    reasoning_tokens    bigint NOT NULL,
    cost_nanos          bigint NOT NULL,
    charged_micros      bigint NOT NULL,
    PRIMARY KEY (organization_id, day, subject_id, channel, capability, model_id)
);

-- The days that usage_day holds, of all organisations together.
CREATE TABLE usage_day_done (
    day     date PRIMARY KEY,
    done_at timestamptz NOT NULL
);

CREATE TABLE audit (
    organization_id uuid   NOT NULL,
    seq             bigint NOT NULL,
    at              timestamptz NOT NULL,
    actor           text   NOT NULL,                             -- key:<id>, person:<id>, system
    action          text   NOT NULL,
    object_type     text   NOT NULL,
    object_id       text   NOT NULL,
    details         jsonb  NOT NULL,
    transaction_id  xid8   NOT NULL DEFAULT pg_current_xact_id(),
    previous_hash   bytea  NOT NULL,
    hash            bytea  NOT NULL,                             -- SHA-256 over previous_hash and the row (core/audit.py)
    address         text,                                        -- from where; NULL: not over the network
    PRIMARY KEY (organization_id, seq)
);
CREATE INDEX audit_at ON audit (organization_id, at);

-- --------------------------------------------------------------------------------------- sign-in, invitations, privacy

-- How somebody signs in. Each is seen by the person alone: policies `self` (app_person()).
CREATE TABLE password (
    person_id  uuid PRIMARY KEY REFERENCES person (id),
    hash       text NOT NULL,                                        -- argon2id
    changed_at timestamptz NOT NULL
);

CREATE TABLE totp (
    person_id    uuid PRIMARY KEY REFERENCES person (id),
    secret       bytea NOT NULL,                                     -- AES-256-GCM
    created_at   timestamptz NOT NULL,
    confirmed_at timestamptz,                                        -- NULL: being set up, not asked for yet
    last_step    bigint NOT NULL DEFAULT 0                           -- a code counts once
);

CREATE TABLE recovery_code (
    person_id uuid  NOT NULL REFERENCES person (id),
    digest    bytea NOT NULL,
    used_at   timestamptz,
    PRIMARY KEY (person_id, digest)
);

-- OpenID Connect providers with which people sign in here; operators set them up.
CREATE TABLE identity_provider (
    id                uuid PRIMARY KEY,
    name              text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    issuer            text NOT NULL UNIQUE,
    client_id         text NOT NULL,
    secret_ciphertext bytea,                                         -- AES-256-GCM; NULL: a public client
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

-- A signed-in browser. Only the digest of what the cookie holds is stored; it is another one after each sign-in.
CREATE TABLE session (
    person_id            uuid  NOT NULL REFERENCES person (id),
    id                   uuid  NOT NULL,
    digest               bytea NOT NULL,
    organization_id      uuid  NOT NULL REFERENCES organization (id),
    method               text  NOT NULL CHECK (method IN ('password', 'link', 'oidc', 'impersonation')),
    created_at           timestamptz NOT NULL,
    seen_at              timestamptz NOT NULL,
    expires_at           timestamptz NOT NULL,
    proved_at            timestamptz NOT NULL,                       -- when the person last proved who they are
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

-- What a link in a mail is worth, once.
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

-- Whose tokens an organisation trusts: one pair of issuer and audience leads to one organisation.
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

-- How often somebody may try, by address and endpoint: free again at ready_at. Its rows are digests, and may be lost.
CREATE UNLOGGED TABLE throttle (
    id       bytea PRIMARY KEY,
    ready_at timestamptz NOT NULL
);
CREATE INDEX throttle_ready ON throttle (ready_at);

-- Mail to be sent, written in the transaction of what it tells about.
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

-- Exports and erasures of what is known about a person or an end user.
CREATE TABLE privacy_task (
    organization_id uuid NOT NULL REFERENCES organization (id),
    id              uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('export', 'erasure')),
    subject_kind    text NOT NULL CHECK (subject_kind IN ('person', 'end_user')),
    subject_id      uuid NOT NULL,
    account         boolean NOT NULL DEFAULT false,                  -- the person's account, in every organisation
    state           text NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    steps_done      smallint NOT NULL DEFAULT 0,
    steps           smallint NOT NULL,
    requested_by    text NOT NULL,
    requested_at    timestamptz NOT NULL,
    finished_at     timestamptz,
    error           text,
    result          bytea,                                           -- the zip of an export, until result_until
    result_until    timestamptz,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX privacy_task_open ON privacy_task (requested_at) WHERE state IN ('waiting', 'running');

-- --------------------------------------------------------------------------------------------- row-level security

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

-- Every tenant table: row-level security enabled and forced, one permissive policy per role.
DO $$
DECLARE
    name text;
    tenant CONSTANT text := 'organization_id = (SELECT app_organization())';
BEGIN
    FOREACH name IN ARRAY ARRAY['member', 'end_user', 'api_key', 'connection', 'entitlement', 'usage_limit', 'credit_balance',
                                'credit_grant', 'credit_transaction', 'reservation', 'quota_window', 'request_rate', 'request',
                                'attempt', 'usage_event', 'idempotency', 'notice', 'usage_day', 'audit',
                                'connection_health', 'kept_answer', 'request_content'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO tollhouse_web USING (%s) WITH CHECK (%s)', name, tenant, tenant);
        EXECUTE format('CREATE POLICY operator ON %I TO tollhouse_operator USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY owner ON %I TO CURRENT_USER USING (true) WITH CHECK (true)', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['end_user', 'api_key', 'connection', 'entitlement', 'usage_limit', 'credit_balance',
                                'credit_grant', 'credit_transaction', 'reservation', 'quota_window', 'request_rate', 'request',
                                'attempt', 'usage_event', 'idempotency', 'notice'] LOOP
        EXECUTE format('CREATE POLICY teller ON %I TO tollhouse_teller USING (true) WITH CHECK (true)', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['credit_balance', 'reservation', 'usage_event', 'idempotency', 'notice', 'usage_day', 'connection',
                                'connection_health', 'kept_answer', 'request_content'] LOOP
        EXECUTE format('CREATE POLICY worker ON %I TO tollhouse_worker USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;

ALTER TABLE organization ENABLE ROW LEVEL SECURITY;
ALTER TABLE organization FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON organization TO tollhouse_web
    USING (id = (SELECT app_organization())) WITH CHECK (id = (SELECT app_organization()));
CREATE POLICY teller ON organization TO tollhouse_teller USING (true) WITH CHECK (true);
CREATE POLICY worker ON organization FOR SELECT TO tollhouse_worker USING (true);
CREATE POLICY operator ON organization TO tollhouse_operator USING (true) WITH CHECK (true);
CREATE POLICY owner ON organization TO CURRENT_USER USING (true) WITH CHECK (true);

ALTER TABLE person ENABLE ROW LEVEL SECURITY;
ALTER TABLE person FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON person TO tollhouse_web
    USING (id = (SELECT app_person())
           OR id IN (SELECT person_id FROM member WHERE organization_id = (SELECT app_organization())))
    WITH CHECK (id = (SELECT app_person()));
CREATE POLICY operator ON person TO tollhouse_operator USING (true) WITH CHECK (true);
CREATE POLICY owner ON person TO CURRENT_USER USING (true) WITH CHECK (true);

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
CREATE POLICY worker ON person FOR SELECT TO tollhouse_worker USING (true);

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

-- ------------------------------------------------------------------------------------------------------- privileges

GRANT USAGE ON SCHEMA public TO tollhouse_web, tollhouse_teller, tollhouse_worker, tollhouse_operator;

GRANT SELECT ON catalogue_version, plan, provider, model, model_price, rate_card, quality_level, capability, plan_capability,
    plan_capability_quality, plan_capability_model, topup_package, rate_card_multiplier, experiment, experiment_arm
    TO tollhouse_web, tollhouse_teller, tollhouse_worker, tollhouse_operator;
GRANT INSERT, UPDATE ON plan, provider, model, model_price, rate_card, quality_level, capability, plan_capability,
    plan_capability_quality, plan_capability_model, topup_package TO tollhouse_operator;
GRANT DELETE ON plan_capability, plan_capability_quality, plan_capability_model TO tollhouse_operator;
GRANT INSERT, UPDATE, DELETE ON rate_card_multiplier, experiment, experiment_arm TO tollhouse_operator;

GRANT SELECT ON organization, person, member, end_user, api_key, entitlement, usage_limit, credit_balance, credit_grant,
    credit_transaction, reservation, quota_window, request_rate, request, attempt, usage_event, idempotency, notice, usage_day,
    audit TO tollhouse_web;

GRANT SELECT ON organization, end_user, api_key, connection, entitlement, usage_limit, credit_balance, credit_grant,
    credit_transaction, reservation, quota_window, request_rate, request, attempt, usage_event, idempotency, notice
    TO tollhouse_teller;
GRANT UPDATE (plan_id, pending_plan_id) ON organization TO tollhouse_teller;
GRANT INSERT ON end_user, credit_transaction, usage_event, notice TO tollhouse_teller;
GRANT INSERT, UPDATE ON credit_balance, credit_grant, reservation, quota_window, request_rate, request, attempt TO tollhouse_teller;
GRANT INSERT, UPDATE, DELETE ON idempotency TO tollhouse_teller;

GRANT SELECT ON organization, credit_balance, reservation, usage_event TO tollhouse_worker;
GRANT SELECT, DELETE ON idempotency TO tollhouse_worker;
GRANT SELECT ON notice TO tollhouse_worker;
GRANT SELECT, INSERT, DELETE ON usage_day TO tollhouse_worker;
GRANT SELECT, INSERT, UPDATE ON usage_day_done TO tollhouse_worker;
GRANT EXECUTE ON FUNCTION create_usage_partitions TO tollhouse_worker;

GRANT SELECT, INSERT, UPDATE ON organization, person, member, end_user, api_key, connection, entitlement, usage_limit,
    credit_balance, credit_grant, reservation, quota_window, request_rate, request, attempt TO tollhouse_operator;
GRANT SELECT, INSERT ON credit_transaction, usage_event, audit, idempotency, notice TO tollhouse_operator;
GRANT SELECT ON usage_day, usage_day_done TO tollhouse_operator;
GRANT SELECT ON usage_day_done TO tollhouse_web;

GRANT DELETE ON connection TO tollhouse_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON connection TO tollhouse_web;
GRANT UPDATE (cache_ttl_s, stores_content) ON organization TO tollhouse_web;
GRANT SELECT ON connection TO tollhouse_worker;
GRANT SELECT, INSERT, UPDATE ON connection_health TO tollhouse_worker;
GRANT SELECT ON connection_health TO tollhouse_web, tollhouse_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON kept_answer, request_content TO tollhouse_web;
GRANT SELECT, DELETE ON kept_answer, request_content TO tollhouse_worker;

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

-- --------------------------------------------------------------------------- look-ups before a tenant is known

-- Whose key is this? The one question asked before there is a tenant; the digest is unguessable, so it tells nothing else.
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

-- Whose session is this? The person, and the organisation that is chosen for it with the person's role there.
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

-- ------------------------------------------------------------------------------------------------------- reporting

-- Credits of an organisation as decimals, for reports and for whoever looks with SQL. No decision is made on them: those
-- are made under the organisation's lock (core/credit.py). 0 for an organisation that the caller cannot see.

-- What has been consumed since the period began.
CREATE FUNCTION get_used_this_period(wanted uuid) RETURNS numeric LANGUAGE sql STABLE
    SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT coalesce((SELECT -sum(t.amount_micros) FROM credit_balance b
                         JOIN credit_transaction t ON t.organization_id = b.organization_id
                         WHERE b.organization_id = wanted AND t.type IN ('ai_consumption', 'late_settle')
                           AND t.seq BETWEEN b.period_seq + 1 AND b.seq), 0) / 1000000;
    END;

-- What is neither spent nor reserved; below zero: debt.
CREATE FUNCTION get_available_credits(wanted uuid) RETURNS numeric LANGUAGE sql STABLE
    SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT coalesce((SELECT remaining_micros - reserved_micros - debt_micros - overdraft_reserved_micros
                         FROM credit_balance WHERE organization_id = wanted), 0)::numeric / 1000000;
    END;

-- The most that the next call may reserve: what is available, and the overdraft.
CREATE FUNCTION get_spendable_credits(wanted uuid) RETURNS numeric LANGUAGE sql STABLE
    SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT coalesce((SELECT greatest(0, remaining_micros - reserved_micros - debt_micros - overdraft_reserved_micros
                                            + overdraft_limit_micros)
                         FROM credit_balance WHERE organization_id = wanted), 0)::numeric / 1000000;
    END;
