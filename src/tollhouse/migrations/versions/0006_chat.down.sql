DROP POLICY worker ON member;
REVOKE SELECT ON member FROM tollhouse_worker;
REVOKE UPDATE (mailed_at) ON notice FROM tollhouse_worker;
REVOKE UPDATE (chat_retention_days) ON organization FROM tollhouse_web;
REVOKE UPDATE (language) ON person FROM tollhouse_web;
DROP TABLE notice_read, assistant_use, message, conversation, persona_override, preference, own_model, passage, document,
    assistant_setting, assistant;
ALTER TABLE notice DROP COLUMN mailed_at;
ALTER TABLE plan DROP COLUMN own_models_max;
ALTER TABLE person DROP COLUMN language;
ALTER TABLE organization DROP COLUMN chat_retention_days;
