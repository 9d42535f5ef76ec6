WITH RECURSIVE asked AS (
    SELECT a.i, a.kind, a.schema, a.name
    FROM pg_catalog.json_to_recordset($1::pg_catalog.json)
        AS a(i pg_catalog.int4, kind pg_catalog.text, schema pg_catalog.name, name pg_catalog.name)
), found AS (
    SELECT a.i, c.oid, c.relname, c.nspname, c.relkind, c.relowner, c.reltoastrelid, c.relpersistence
    FROM asked a CROSS JOIN LATERAL (
        SELECT c.oid, c.relname, n.nspname, c.relkind, c.relowner, c.reltoastrelid, c.relpersistence
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        WHERE c.relname OPERATOR(pg_catalog.=) a.name
        AND CASE
            WHEN a.schema OPERATOR(pg_catalog.=) ''::pg_catalog.name
                THEN pg_catalog.array_position(pg_catalog.current_schemas(true), n.nspname) IS NOT NULL
            WHEN a.schema OPERATOR(pg_catalog.=) 'pg_temp'::pg_catalog.name THEN n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
            ELSE n.nspname OPERATOR(pg_catalog.=) a.schema
        END
        ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(true), n.nspname)
        LIMIT 1
    ) c
    WHERE a.kind OPERATOR(pg_catalog.=) 'relation'::pg_catalog.text
), tree AS (
    SELECT f.i, f.oid FROM found f
    UNION ALL
    SELECT t.i, h.inhrelid FROM tree t JOIN pg_catalog.pg_inherits h ON h.inhparent OPERATOR(pg_catalog.=) t.oid
), mass AS (
    SELECT t.i, pg_catalog.count(*) AS relations,
        pg_catalog.sum(CASE WHEN c.relkind OPERATOR(pg_catalog.=) ANY ('{r,m}'::pg_catalog."char"[]) THEN c.reltuples END) AS rows,
        pg_catalog.bool_or(c.reltuples OPERATOR(pg_catalog.<) 0::pg_catalog.float4
            AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,m}'::pg_catalog."char"[])) AS unknown,
        pg_catalog.sum(c.relpages OPERATOR(pg_catalog.+) COALESCE(o.relpages, 0) OPERATOR(pg_catalog.+) COALESCE((
            SELECT pg_catalog.sum(x.relpages)::pg_catalog.int4
            FROM pg_catalog.pg_index d JOIN pg_catalog.pg_class x ON x.oid OPERATOR(pg_catalog.=) d.indexrelid
            WHERE d.indrelid OPERATOR(pg_catalog.=) c.oid), 0)) AS pages,
        pg_catalog.hashtextextended(
            pg_catalog.string_agg(t.oid::pg_catalog.text, ',' ORDER BY t.oid::pg_catalog.int8 USING OPERATOR(pg_catalog.<)), 0) AS digest
    FROM tree t JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.oid
        LEFT JOIN pg_catalog.pg_class o ON o.oid OPERATOR(pg_catalog.=) c.reltoastrelid
    GROUP BY t.i
), relations AS (
    SELECT pg_catalog.json_build_object(
        'i', f.i, 'oid', f.oid::pg_catalog.int8, 'node', COALESCE(pg_catalog.pg_relation_filenode(f.oid), 0)::pg_catalog.int8,
        'now', f.oid::pg_catalog.regclass::pg_catalog.text, 'schema', f.nspname, 'name', f.relname, 'kind', f.relkind,
        'temporary', f.relpersistence OPERATOR(pg_catalog.=) 't'::pg_catalog."char",
        'owner', pg_catalog.pg_get_userbyid(f.relowner), 'rows', CASE WHEN m.unknown THEN NULL ELSE m.rows END, 'pages', m.pages,
        'relations', m.relations, 'digest', m.digest,
        'columns', (
            SELECT pg_catalog.left(pg_catalog.string_agg(
                pg_catalog.concat(a.attname, ' ', pg_catalog.format_type(a.atttypid, a.atttypmod)), ', '
                ORDER BY a.attnum::pg_catalog.int4 USING OPERATOR(pg_catalog.<)), 4000)
            FROM pg_catalog.pg_attribute a
            WHERE a.attrelid OPERATOR(pg_catalog.=) f.oid AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped),
        'views', (
            SELECT pg_catalog.json_agg(v.name) FROM (
                SELECT DISTINCT ON (r.ev_class) r.ev_class::pg_catalog.regclass::pg_catalog.text AS name
                FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid OPERATOR(pg_catalog.=) d.objid
                WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid
                AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
                AND d.refobjid OPERATOR(pg_catalog.=) f.oid AND r.ev_class OPERATOR(pg_catalog.<>) f.oid
                LIMIT 100) v),
        'foreign_keys', (
            SELECT pg_catalog.json_agg(k.name) FROM (
                SELECT DISTINCT ON (k.conrelid) k.conrelid::pg_catalog.regclass::pg_catalog.text AS name FROM pg_catalog.pg_constraint k
                WHERE k.confrelid OPERATOR(pg_catalog.=) f.oid AND k.contype OPERATOR(pg_catalog.=) 'f'::pg_catalog."char"
                AND k.conrelid OPERATOR(pg_catalog.<>) f.oid LIMIT 100) k),
        'triggers', (
            SELECT pg_catalog.json_agg(t.tgname) FROM (
                SELECT t.tgname FROM pg_catalog.pg_trigger t
                WHERE t.tgrelid OPERATOR(pg_catalog.=) f.oid AND NOT t.tgisinternal LIMIT 100) t),
        'indexes', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_index d WHERE d.indrelid OPERATOR(pg_catalog.=) f.oid),
        'users', (
            SELECT pg_catalog.count(DISTINCT l.pid) FROM pg_catalog.pg_locks l
            WHERE l.relation OPERATOR(pg_catalog.=) f.oid AND l.granted
            AND l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
            AND l.database OPERATOR(pg_catalog.=) (
                SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))
    ) AS told
    FROM found f JOIN mass m ON m.i OPERATOR(pg_catalog.=) f.i
), schemas AS (
    SELECT pg_catalog.json_build_object(
        'i', a.i, 'oid', n.oid::pg_catalog.int8, 'node', 0, 'now', n.nspname, 'schema', n.nspname, 'name', n.nspname, 'kind', 'schema',
        'temporary', false, 'owner', pg_catalog.pg_get_userbyid(n.nspowner), 'rows', s.rows, 'pages', s.pages, 'relations', s.relations,
        'digest', s.digest, 'columns', NULL, 'views', NULL, 'foreign_keys', NULL, 'triggers', NULL, 'indexes', 0, 'users', 0
    ) AS told
    FROM asked a JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) a.name CROSS JOIN LATERAL (
        SELECT pg_catalog.count(*) FILTER (WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f,S}'::pg_catalog."char"[])) AS relations,
            pg_catalog.sum(CASE WHEN c.relkind OPERATOR(pg_catalog.=) ANY ('{r,m}'::pg_catalog."char"[])
                AND c.reltuples OPERATOR(pg_catalog.>=) 0::pg_catalog.float4 THEN c.reltuples END) AS rows,
            pg_catalog.sum(c.relpages) AS pages,
            pg_catalog.hashtextextended(pg_catalog.string_agg(
                pg_catalog.concat(c.oid, ':', pg_catalog.pg_relation_filenode(c.oid)), ','
                ORDER BY c.oid::pg_catalog.int8 USING OPERATOR(pg_catalog.<)), 0) AS digest
        FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid
    ) s
    WHERE a.kind OPERATOR(pg_catalog.=) 'schema'::pg_catalog.text
), waiting AS (
    SELECT DISTINCT l.pid FROM pg_catalog.pg_locks l
    WHERE NOT l.granted AND pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) ANY (pg_catalog.pg_blocking_pids(l.pid))
)
SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
    'page_bytes', pg_catalog.current_setting('block_size')::pg_catalog.int4,
    'objects', (SELECT pg_catalog.json_agg(o.told) FROM (SELECT r.told FROM relations r UNION ALL SELECT s.told FROM schemas s) o),
    'locks', (
        SELECT pg_catalog.json_agg(k.told) FROM (
            SELECT pg_catalog.concat(l.relation::pg_catalog.regclass::pg_catalog.text, ' ', l.mode) AS told
            FROM pg_catalog.pg_locks l
            WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.granted
            AND l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.mode OPERATOR(pg_catalog.<>) 'AccessShareLock'
            LIMIT 50) k),
    'waiting', (
        SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
            'pid', w.pid, 'role', s.usename, 'application_name', s.application_name,
            'for_s', pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) s.query_start)))
        FROM waiting w LEFT JOIN pg_catalog.pg_stat_activity s ON s.pid OPERATOR(pg_catalog.=) w.pid)
)::pg_catalog.text, pg_catalog.getdatabaseencoding()), 'hex')
