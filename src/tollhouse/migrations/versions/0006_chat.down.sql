DROP FUNCTION find_session(bytea);
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
REVOKE ALL ON FUNCTION find_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_session TO tollhouse_web, tollhouse_operator;
DROP FUNCTION find_api_key(bytea);
CREATE FUNCTION find_api_key(wanted bytea)
    RETURNS TABLE (organization_id uuid, id uuid, scopes text[], mode text, expires_at timestamptz, revoked_at timestamptz,
                   clock_offset_micros bigint, suspended_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    BEGIN ATOMIC
        SELECT k.organization_id, k.id, k.scopes, k.mode, k.expires_at, k.revoked_at, o.clock_offset_micros, o.suspended_at
        FROM api_key k JOIN organization o ON o.id = k.organization_id
        WHERE k.digest = wanted AND o.deleted_at IS NULL;
    END;
REVOKE ALL ON FUNCTION find_api_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_api_key TO tollhouse_web, tollhouse_operator;
REVOKE SELECT ON usage_day_done FROM tollhouse_web;
DROP INDEX usage_event_own;
DROP POLICY worker ON member;
REVOKE SELECT ON member FROM tollhouse_worker;
DROP POLICY worker ON person;
REVOKE SELECT (id, email, email_verified_at, suspended_at, erased_at) ON person FROM tollhouse_worker;
REVOKE UPDATE (mailed_at) ON notice FROM tollhouse_worker;
REVOKE UPDATE (chat_retention_days) ON organization FROM tollhouse_web;
REVOKE UPDATE (language) ON person FROM tollhouse_web;
DROP TABLE notice_read, assistant_use, message, conversation, persona_override, preference, own_model, passage, document,
    assistant_setting, assistant;
ALTER TABLE notice DROP COLUMN mailed_at;
ALTER TABLE plan DROP COLUMN own_models_max;
ALTER TABLE person DROP COLUMN language;
ALTER TABLE organization DROP COLUMN chat_retention_days;
ALTER TABLE api_key DROP COLUMN networks;
