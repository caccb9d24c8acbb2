import asyncio, json
import pytest, psycopg
def test_x(database_url):
    with psycopg.connect(database_url) as c:
        rows=c.execute("""SELECT r.rolname, t.relname, p.verb FROM pg_roles r, pg_class t, (VALUES('SELECT'),('INSERT'),('UPDATE'),('DELETE'),('TRUNCATE'),('REFERENCES'),('TRIGGER')) p(verb)
        WHERE r.rolname LIKE 'tollhouse\\_%' AND t.relnamespace='public'::regnamespace AND t.relkind IN ('r','p','v','m','S') AND has_table_privilege(r.rolname,t.oid,p.verb) ORDER BY 1,2,3""").fetchall()
        cols=c.execute("""SELECT a.grantee, a.table_name, a.privilege_type, string_agg(a.column_name, ' ' ORDER BY a.column_name) FROM information_schema.column_privileges a WHERE grantee LIKE 'tollhouse\\_%' AND NOT has_table_privilege(a.grantee, format('%I.%I',a.table_schema,a.table_name), a.privilege_type) AND table_schema='public' GROUP BY 1,2,3 ORDER BY 1,2,3""").fetchall()
        out={}
        for r,t,v in rows: out.setdefault(r,{}).setdefault(t,[]).append(v[0] if v!='TRUNCATE' else 'TRUNC')
        by={}
        for r,ts in out.items():
            for t,vs in ts.items():
                by.setdefault(r,{}).setdefault("".join(x for x in "SIUDTR" if x in vs),[]).append(t)
        for r in by:
            print(r)
            for k in sorted(by[r]): print("   ",k," ".join(by[r][k]))
        print(cols)
        print(c.execute("SELECT n.nspname, p.proname, p.prosecdef, p.proconfig, p.prosqlbody IS NOT NULL, l.lanname, p.proacl::text FROM pg_proc p JOIN pg_namespace n ON n.oid=p.pronamespace JOIN pg_language l ON l.oid=p.prolang WHERE n.nspname NOT IN ('pg_catalog','information_schema') AND (p.prosecdef OR n.nspname='public')").fetchall())
        print(c.execute("SELECT conrelid::regclass::text, confrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype='f' AND connamespace='public'::regnamespace").fetchall())
        print(c.execute("SELECT tablename, policyname, permissive, roles::text, cmd, qual, with_check FROM pg_policies WHERE policyname in ('tenant','self') OR cmd<>'ALL'").fetchall())
        print(c.execute("SELECT current_user, session_user, datacl::text FROM pg_database WHERE datname=current_database()").fetchall(), c.execute("select nspname, nspacl::text from pg_namespace where nspname in ('public','procrastinate')").fetchall())
        print(c.execute("SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class t ON t.oid=i.indrelid WHERE i.indisunique AND t.relnamespace='public'::regnamespace AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid=t.oid AND a.attname='organization_id') AND (SELECT attname FROM pg_attribute a WHERE a.attrelid=t.oid AND a.attnum=i.indkey[0])<>'organization_id'").fetchall())
        print(c.execute("select relname, relrowsecurity from pg_class where relnamespace='public'::regnamespace and relkind in ('r','p','v','m') and not (relrowsecurity and relforcerowsecurity)").fetchall())
