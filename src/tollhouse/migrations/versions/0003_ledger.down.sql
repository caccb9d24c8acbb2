-- Everything that 0003_ledger.up.sql made. What the older version cannot hold (counters of limits that it does not know, calls
-- that still run under an idempotency key) goes with it.

DROP FUNCTION get_used_this_period, get_available_credits, get_spendable_credits;
DROP TABLE usage_day_done, usage_day, notice, request_rate;

DELETE FROM idempotency WHERE status IS NULL;
ALTER TABLE idempotency
    DROP CONSTRAINT idempotency_answered,
    DROP COLUMN reservation_id,
    ALTER COLUMN response SET NOT NULL,
    ALTER COLUMN status SET NOT NULL;
REVOKE UPDATE ON idempotency FROM tollhouse_teller;

DELETE FROM quota_window WHERE limit_id IS NOT NULL OR capability <> '';
ALTER TABLE quota_window DROP COLUMN limit_id, DROP COLUMN capability;
ALTER TABLE reservation DROP COLUMN metadata;
DROP INDEX credit_grant_burn_order, credit_grant_ends;
ALTER TABLE credit_grant DROP COLUMN spent;
CREATE INDEX credit_grant_burn_order ON credit_grant (organization_id, priority, expires_at, paid, effective_at, created_at, id)
    WHERE active AND remaining_micros > 0;
CREATE INDEX credit_grant_ends ON credit_grant (organization_id, expires_at) WHERE active AND remaining_micros > 0;
ALTER TABLE credit_balance DROP COLUMN period_seq, DROP COLUMN depleted_armed, DROP COLUMN low_armed;

DROP INDEX usage_limit_in_force;
DELETE FROM usage_limit WHERE ended_at IS NOT NULL OR period = 'minute';
ALTER TABLE usage_limit
    DROP COLUMN ended_at,
    DROP CONSTRAINT usage_limit_period_check,
    ADD CONSTRAINT usage_limit_period_check CHECK (period IN ('day', 'week', 'month', 'lifetime'));

ALTER TABLE capability
    DROP CONSTRAINT capability_runs_whole,
    DROP COLUMN max_output_tokens, DROP COLUMN answer_schema, DROP COLUMN input_schema, DROP COLUMN instructions;

CREATE OR REPLACE FUNCTION create_usage_partitions(since timestamptz, until timestamptz) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public SET timezone = 'UTC' AS $$
DECLARE
    month timestamptz := date_trunc('month', since);
    partition text;
BEGIN
    WHILE month <= until LOOP
        partition := 'usage_event_' || to_char(month, 'YYYY_MM');
        IF to_regclass('public.' || partition) IS NULL THEN
            EXECUTE format('CREATE TABLE public.%I PARTITION OF public.usage_event FOR VALUES FROM (%L) TO (%L)',
                           partition, month, month + interval '1 month');
            EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', partition);
            EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', partition);
        END IF;
        month := month + interval '1 month';
    END LOOP;
END $$;
