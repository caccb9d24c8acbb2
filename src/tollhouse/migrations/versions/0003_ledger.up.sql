-- The ledger's second part: limits per minute and per capability, runnable capabilities, notices, rollups, idempotent calls.

ALTER TABLE capability
    ADD COLUMN instructions text NOT NULL DEFAULT '',
    ADD COLUMN input_schema jsonb,
    ADD COLUMN answer_schema jsonb,
    ADD COLUMN max_output_tokens integer NOT NULL DEFAULT 1024 CHECK (max_output_tokens > 0),
    ADD CONSTRAINT capability_runs_whole CHECK (instructions = '' OR (input_schema IS NOT NULL AND answer_schema IS NOT NULL));

ALTER TABLE usage_limit
    ADD COLUMN ended_at timestamptz,
    DROP CONSTRAINT usage_limit_period_check,
    ADD CONSTRAINT usage_limit_period_check CHECK (period IN ('minute', 'day', 'week', 'month', 'lifetime'));
CREATE INDEX usage_limit_in_force ON usage_limit (organization_id) WHERE ended_at IS NULL;

ALTER TABLE credit_balance
    ADD COLUMN low_armed boolean NOT NULL DEFAULT true,
    ADD COLUMN depleted_armed boolean NOT NULL DEFAULT true,
    ADD COLUMN period_seq bigint NOT NULL DEFAULT 0;
UPDATE credit_balance b SET period_seq = coalesce(
    (SELECT max(seq) FROM credit_transaction t WHERE t.organization_id = b.organization_id AND t.created_at < b.period_start), 0);

ALTER TABLE credit_grant ADD COLUMN spent boolean GENERATED ALWAYS AS (remaining_micros = 0) STORED;
DROP INDEX credit_grant_burn_order, credit_grant_ends;
CREATE INDEX credit_grant_burn_order ON credit_grant (organization_id, priority, expires_at, paid, effective_at, created_at, id)
    WHERE active AND NOT spent;
CREATE INDEX credit_grant_ends ON credit_grant (organization_id, expires_at) WHERE active AND NOT spent;

ALTER TABLE reservation ADD COLUMN metadata jsonb;

ALTER TABLE quota_window
    ADD COLUMN capability text NOT NULL DEFAULT '',
    ADD COLUMN limit_id uuid;

ALTER TABLE idempotency
    ALTER COLUMN status DROP NOT NULL,
    ALTER COLUMN response DROP NOT NULL,
    ADD COLUMN reservation_id uuid,
    ADD CONSTRAINT idempotency_answered CHECK ((status IS NULL) = (response IS NULL) AND (status IS NOT NULL OR reservation_id IS NOT NULL));

CREATE TABLE request_rate (
    organization_id uuid  NOT NULL,
    id              uuid  NOT NULL,                              -- derived like that of a window
    subject_id      uuid  NOT NULL,
    seconds         jsonb NOT NULL,                              -- [[epoch second, requests]...], oldest first
    PRIMARY KEY (organization_id, id)
) WITH (fillfactor = 50);

CREATE TABLE notice (
    organization_id  uuid   NOT NULL,
    kind             text   NOT NULL CHECK (kind IN ('low_balance', 'depleted')),
    day              date   NOT NULL,                            -- the organisation's own
    available_micros bigint NOT NULL,
    threshold_micros bigint NOT NULL,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (organization_id, kind, day)
);

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

CREATE TABLE usage_day_done (
    day     date PRIMARY KEY,
    done_at timestamptz NOT NULL
);

DO $$
DECLARE
    name text;
    tenant CONSTANT text := 'organization_id = (SELECT app_organization())';
BEGIN
    FOREACH name IN ARRAY ARRAY['request_rate', 'notice', 'usage_day'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO tollhouse_web USING (%s) WITH CHECK (%s)', name, tenant, tenant);
        EXECUTE format('CREATE POLICY operator ON %I TO tollhouse_operator USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY owner ON %I TO CURRENT_USER USING (true) WITH CHECK (true)', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['request_rate', 'notice'] LOOP
        EXECUTE format('CREATE POLICY teller ON %I TO tollhouse_teller USING (true) WITH CHECK (true)', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['notice', 'usage_day'] LOOP
        EXECUTE format('CREATE POLICY worker ON %I TO tollhouse_worker USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;

GRANT SELECT ON request_rate, notice, usage_day TO tollhouse_web;
GRANT SELECT, INSERT, UPDATE ON request_rate TO tollhouse_teller;
GRANT SELECT, INSERT ON notice TO tollhouse_teller;
GRANT UPDATE ON idempotency TO tollhouse_teller;
GRANT SELECT ON notice TO tollhouse_worker;
GRANT SELECT, INSERT, DELETE ON usage_day TO tollhouse_worker;
GRANT SELECT, INSERT, UPDATE ON usage_day_done TO tollhouse_worker;
GRANT SELECT, INSERT, UPDATE ON request_rate TO tollhouse_operator;
GRANT SELECT, INSERT ON notice TO tollhouse_operator;
GRANT SELECT ON usage_day, usage_day_done TO tollhouse_operator;

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

CREATE OR REPLACE FUNCTION create_usage_partitions(since timestamptz, until timestamptz) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public SET timezone = 'UTC' AS $$
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
