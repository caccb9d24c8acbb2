-- Everything that 0005_people.up.sql made. Limits in credits, lists of models and the addresses in the audit log go with it: the
-- hashes of audit rows that have an address no longer hold then.

ALTER FUNCTION raise_catalogue_version() SET search_path = pg_catalog, public;
ALTER FUNCTION create_usage_partitions(timestamptz, timestamptz) SET search_path = pg_catalog, public;
CREATE OR REPLACE FUNCTION find_api_key(wanted bytea)
    RETURNS TABLE (organization_id uuid, id uuid, scopes text[], mode text, expires_at timestamptz, revoked_at timestamptz,
                   clock_offset_micros bigint, suspended_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT k.organization_id, k.id, k.scopes, k.mode, k.expires_at, k.revoked_at, o.clock_offset_micros, o.suspended_at
        FROM api_key k JOIN organization o ON o.id = k.organization_id
        WHERE k.digest = wanted;
    END;
DROP FUNCTION own_organizations(), find_jwt_issuer(text, text[]), find_invitation(bytea),
    find_one_time_token(bytea, text, timestamptz), use_one_time_token(bytea, text, timestamptz),
    find_linked_identity(uuid, text), find_person(text), find_session(bytea);

REVOKE SELECT, DELETE ON request_content, kept_answer FROM tollhouse_operator;
REVOKE DELETE ON idempotency FROM tollhouse_operator;
REVOKE DELETE ON member FROM tollhouse_operator;
REVOKE SELECT (organization_id, id, expires_at, revoked_at) ON api_key FROM tollhouse_worker;
DROP POLICY worker ON api_key;
REVOKE SELECT (id, suspended_at, erased_at) ON person FROM tollhouse_teller;
REVOKE SELECT ON member FROM tollhouse_teller;
REVOKE INSERT ON audit FROM tollhouse_web;
REVOKE UPDATE (name, email, email_verified_at) ON person FROM tollhouse_web;
DROP POLICY tenant ON person;
CREATE POLICY tenant ON person FOR SELECT TO tollhouse_web
    USING (id IN (SELECT person_id FROM member WHERE organization_id = (SELECT app_organization())));
DROP POLICY teller ON person;
DROP POLICY teller ON member;

DROP TABLE privacy_task, mail, throttle, jwt_issuer, invitation, one_time_token, session, linked_identity, identity_provider,
    recovery_code, totp, password;
DROP INDEX audit_at;
ALTER TABLE kept_answer DROP COLUMN request_id;
ALTER TABLE audit DROP COLUMN address;
DELETE FROM usage_limit WHERE meter = 'credits';
ALTER TABLE usage_limit
    DROP CONSTRAINT usage_limit_meter_check,
    ADD CONSTRAINT usage_limit_meter_check CHECK (meter IN ('messages', 'tokens'));
ALTER TABLE api_key
    DROP COLUMN counts_as, DROP COLUMN replaced_by, DROP COLUMN created_by, DROP COLUMN last_used_at, DROP COLUMN model_ids;
ALTER TABLE person
    DROP CONSTRAINT person_name, DROP COLUMN erased_at, DROP COLUMN suspended_at, DROP COLUMN email_verified_at;
ALTER TABLE organization DROP COLUMN deleted_at, DROP COLUMN retention_days;
DROP FUNCTION app_person();
