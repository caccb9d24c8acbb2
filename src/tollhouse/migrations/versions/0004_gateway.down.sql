-- Everything that 0004_gateway.up.sql made. Connections of organisations go with it: the older version does not know them.

DROP TABLE request_content, kept_answer, experiment_arm, experiment, connection_health, rate_card_multiplier;
ALTER TABLE usage_event
    DROP CONSTRAINT usage_event_input, DROP CONSTRAINT usage_event_origin, DROP COLUMN origin, DROP COLUMN cache_write_tokens;
ALTER TABLE attempt DROP COLUMN own_key;
DROP INDEX request_experiment;
ALTER TABLE request DROP COLUMN experiment_id, DROP COLUMN reason, DROP COLUMN asked_model;

DELETE FROM connection WHERE origin = 'organization';
DROP POLICY worker ON connection;
REVOKE ALL ON connection FROM tollhouse_worker, tollhouse_web;
REVOKE DELETE ON connection FROM tollhouse_operator;
ALTER TABLE connection
    DROP CONSTRAINT connection_origin_check,
    ADD CONSTRAINT connection_origin_check CHECK (origin IN ('environment', 'operator')),
    DROP COLUMN updated_at, DROP COLUMN priority, DROP COLUMN key_hint, DROP COLUMN name;
REVOKE UPDATE (cache_ttl_s, stores_content) ON organization FROM tollhouse_web;
ALTER TABLE organization DROP COLUMN stores_content, DROP COLUMN cache_ttl_s;
ALTER TABLE rate_card
    DROP COLUMN note, DROP COLUMN cache_hit_permille, DROP COLUMN own_key_permille, DROP COLUMN markup_permille;
ALTER TABLE model_price
    DROP CONSTRAINT model_price_free_wholly,
    DROP COLUMN source, DROP COLUMN cache_write_nanos_per_million, DROP COLUMN reasoning_nanos_per_million;
DROP INDEX model_one_default;
ALTER TABLE model DROP COLUMN is_default, DROP COLUMN kind;
