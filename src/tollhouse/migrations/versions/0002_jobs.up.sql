-- Its functions and triggers name their tables without a schema. Pinned, they work from any connection, so a job can be
-- queued in the transaction of a caller whose search path does not know of it.
DO $$
DECLARE
    routine regprocedure;
BEGIN
    FOR routine IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'procrastinate'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = procrastinate, pg_catalog, pg_temp', routine);
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA procrastinate TO tollhouse_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA procrastinate TO tollhouse_worker;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA procrastinate TO tollhouse_worker;
