WITH RECURSIVE asked AS (
    SELECT a.kind, a.schema, a.name
    FROM pg_catalog.json_to_recordset($1::pg_catalog.json) AS a(kind pg_catalog.text, schema pg_catalog.name, name pg_catalog.name)
), schemas AS (
    SELECT n.nspname FROM pg_catalog.pg_namespace n
    WHERE EXISTS (SELECT FROM asked a WHERE a.kind OPERATOR(pg_catalog.=) 'all'::pg_catalog.text)
    AND pg_catalog.left(n.nspname::pg_catalog.text, 3) OPERATOR(pg_catalog.<>) 'pg_'::pg_catalog.text
    AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'::pg_catalog.name
    UNION SELECT COALESCE(
        CASE WHEN a.kind OPERATOR(pg_catalog.=) 'schema'::pg_catalog.text THEN a.name
            WHEN a.schema OPERATOR(pg_catalog.<>) ''::pg_catalog.name THEN a.schema END,
        (SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
            WHERE a.kind OPERATOR(pg_catalog.=) 'relation'::pg_catalog.text AND c.relname OPERATOR(pg_catalog.=) a.name
            AND pg_catalog.array_position(pg_catalog.current_schemas(true), n.nspname) IS NOT NULL
            ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(true), n.nspname) LIMIT 1),
        pg_catalog.current_schema()) AS nspname
    FROM asked a WHERE a.kind OPERATOR(pg_catalog.<>) 'all'::pg_catalog.text
), family(oid) AS (
    SELECT c.oid FROM schemas s JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) s.nspname
        JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
    UNION SELECT h.inhrelid FROM family f JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) f.oid
), found AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relowner, c.reltuples, c.relpages, c.relpersistence, c.relispartition
    FROM family a JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.oid
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,f,m,v,S}'::pg_catalog."char"[])
    AND n.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema,pg_toast}'::pg_catalog.name[])
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend d WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
        AND d.objid OPERATOR(pg_catalog.=) c.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char")
    ORDER BY n.nspname USING OPERATOR(pg_catalog.<), c.relname USING OPERATOR(pg_catalog.<) LIMIT 10001
)
SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
    'page_bytes', pg_catalog.current_setting('block_size')::pg_catalog.int4,
    'schemas', (SELECT pg_catalog.json_agg(s.nspname) FROM schemas s),
    'objects', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
        'oid', f.oid::pg_catalog.int8, 'node', COALESCE(pg_catalog.pg_relation_filenode(f.oid), 0)::pg_catalog.int8,
        'schema', f.nspname, 'name', f.relname, 'kind', f.relkind, 'owner', pg_catalog.pg_get_userbyid(f.relowner),
        'rows', CASE WHEN f.reltuples OPERATOR(pg_catalog.>=) 0::pg_catalog.float4 THEN f.reltuples::pg_catalog.int8 END,
        'pages', f.relpages, 'temporary', f.relpersistence OPERATOR(pg_catalog.=) 't'::pg_catalog."char")) FROM found f),
    'locks', (
        SELECT pg_catalog.json_agg(k.told) FROM (
            SELECT pg_catalog.concat(l.relation::pg_catalog.regclass::pg_catalog.text, ' ', l.mode) AS told
            FROM pg_catalog.pg_locks l
            WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.granted
            AND l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.mode OPERATOR(pg_catalog.<>) 'AccessShareLock'
            LIMIT 50) k)
)::pg_catalog.text, pg_catalog.getdatabaseencoding()), 'hex')
