-- The gateway: prices of every kind of token, rate cards with all that they say, connections of organisations and their health,
-- experiments, the answer cache, stored prompts.

ALTER TABLE model
    ADD COLUMN kind text NOT NULL DEFAULT 'chat' CHECK (kind IN ('chat', 'embedding')),
    ADD COLUMN is_default boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX model_one_default ON model (is_default) WHERE is_default;
UPDATE model SET is_default = true WHERE id = 'gpt-4o-mini';

ALTER TABLE model_price
    ADD COLUMN reasoning_nanos_per_million bigint CHECK (reasoning_nanos_per_million >= 0),
    ADD COLUMN cache_write_nanos_per_million bigint CHECK (cache_write_nanos_per_million >= 0),
    ADD COLUMN source text NOT NULL DEFAULT 'operator' CHECK (source IN ('seed', 'operator', 'import')),
    ADD CONSTRAINT model_price_free_wholly
        CHECK (NOT free OR (coalesce(reasoning_nanos_per_million, 0) = 0 AND coalesce(cache_write_nanos_per_million, 0) = 0));

ALTER TABLE rate_card
    ADD COLUMN markup_permille integer NOT NULL DEFAULT 1000 CHECK (markup_permille > 0),
    ADD COLUMN own_key_permille integer NOT NULL DEFAULT 0 CHECK (own_key_permille BETWEEN 0 AND 1000),
    ADD COLUMN cache_hit_permille integer NOT NULL DEFAULT 100 CHECK (cache_hit_permille BETWEEN 0 AND 1000),
    ADD COLUMN note text NOT NULL DEFAULT '';

CREATE TABLE rate_card_multiplier (
    rate_version        integer NOT NULL REFERENCES rate_card (version),
    quality_id          text    NOT NULL REFERENCES quality_level (id),
    multiplier_permille integer NOT NULL CHECK (multiplier_permille > 0),
    PRIMARY KEY (rate_version, quality_id)
);

ALTER TABLE organization
    ADD COLUMN cache_ttl_s integer CHECK (cache_ttl_s BETWEEN 1 AND 2592000),
    ADD COLUMN stores_content boolean NOT NULL DEFAULT false;

ALTER TABLE connection
    ADD COLUMN name text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    ADD COLUMN key_hint text,
    ADD COLUMN priority smallint NOT NULL DEFAULT 0,
    ADD COLUMN updated_at timestamptz,
    DROP CONSTRAINT connection_origin_check,
    ADD CONSTRAINT connection_origin_check CHECK (origin IN ('environment', 'operator', 'organization'));

CREATE TABLE connection_health (
    organization_id uuid    NOT NULL,
    connection_id   uuid    NOT NULL,
    checked_at      timestamptz NOT NULL,
    error           text,
    duration_ms     integer NOT NULL,
    failures        integer NOT NULL DEFAULT 0,
    PRIMARY KEY (organization_id, connection_id),
    FOREIGN KEY (organization_id, connection_id) REFERENCES connection (organization_id, id) ON DELETE CASCADE
);

CREATE TABLE experiment (
    id            uuid PRIMARY KEY,
    name          text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 100),
    model_id      text,
    capability_id text,
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

ALTER TABLE request
    ADD COLUMN asked_model text,
    ADD COLUMN reason text,
    ADD COLUMN experiment_id uuid;
CREATE INDEX request_experiment ON request (experiment_id, created_at) WHERE experiment_id IS NOT NULL;

ALTER TABLE attempt ADD COLUMN own_key boolean NOT NULL DEFAULT false;

ALTER TABLE usage_event
    ADD COLUMN cache_write_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN origin text NOT NULL DEFAULT 'provider',
    ADD CONSTRAINT usage_event_input CHECK (cache_write_tokens BETWEEN 0 AND input_tokens - cached_input_tokens),
    ADD CONSTRAINT usage_event_origin CHECK (origin IN ('provider', 'own_key', 'cache'));

CREATE TABLE kept_answer (
    organization_id uuid    NOT NULL,
    key             bytea   NOT NULL,
    model_id        text    NOT NULL,
    answer          jsonb   NOT NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, key)
);
CREATE INDEX kept_answer_expires ON kept_answer (expires_at);

CREATE TABLE request_content (
    organization_id uuid    NOT NULL,
    request_id      uuid    NOT NULL,
    prompt          jsonb   NOT NULL,
    answer          jsonb,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, request_id)
);
CREATE INDEX request_content_created ON request_content (created_at);

DO $$
DECLARE
    name text;
    tenant CONSTANT text := 'organization_id = (SELECT app_organization())';
BEGIN
    FOREACH name IN ARRAY ARRAY['rate_card_multiplier', 'experiment', 'experiment_arm'] LOOP
        EXECUTE format('CREATE TRIGGER catalogue_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION raise_catalogue_version()', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['connection_health', 'kept_answer', 'request_content'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO tollhouse_web USING (%s) WITH CHECK (%s)', name, tenant, tenant);
        EXECUTE format('CREATE POLICY operator ON %I TO tollhouse_operator USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY owner ON %I TO CURRENT_USER USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY worker ON %I TO tollhouse_worker USING (true) WITH CHECK (true)', name);
    END LOOP;
    CREATE POLICY worker ON connection TO tollhouse_worker USING (true) WITH CHECK (true);
END $$;

GRANT SELECT ON rate_card_multiplier, experiment, experiment_arm
    TO tollhouse_web, tollhouse_teller, tollhouse_worker, tollhouse_operator;
GRANT INSERT, UPDATE, DELETE ON rate_card_multiplier, experiment, experiment_arm TO tollhouse_operator;
GRANT DELETE ON connection TO tollhouse_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON connection TO tollhouse_web;
GRANT UPDATE (cache_ttl_s, stores_content) ON organization TO tollhouse_web;
GRANT SELECT ON connection TO tollhouse_worker;
GRANT SELECT, INSERT, UPDATE ON connection_health TO tollhouse_worker;
GRANT SELECT ON connection_health TO tollhouse_web, tollhouse_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON kept_answer, request_content TO tollhouse_web;
GRANT SELECT, DELETE ON kept_answer, request_content TO tollhouse_worker;
