-- Everything that 0001_start.up.sql made, and the monthly partitions made since. No CASCADE: whatever else hangs on these
-- tables is not ours to drop, and stops this.

DROP FUNCTION find_api_key, create_usage_partitions;

DROP TABLE audit, idempotency, usage_event, attempt, request, quota_window, reservation, credit_transaction, credit_grant,
    credit_balance, usage_limit, entitlement, connection, api_key, end_user, member, person, organization, topup_package,
    plan_capability_model, plan_capability_quality, plan_capability, capability, quality_level, rate_card, model_price, model,
    provider, plan, catalogue_version;

DROP FUNCTION app_organization, touch_updated_at, raise_catalogue_version;

-- The roles belong to the server: they go when no other database of it needs them.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tollhouse_web', 'tollhouse_teller', 'tollhouse_worker', 'tollhouse_operator'] LOOP
        IF to_regrole(name) IS NOT NULL THEN
            EXECUTE format('DROP OWNED BY %I', name); -- what it was granted on this database and its schemas
        END IF;
        BEGIN -- a block of its own: what fails here must not bring those privileges back
            EXECUTE format('DROP ROLE %I', name);
        EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege OR undefined_object THEN
            NULL;
        END;
    END LOOP;
END $$;
