WITH RECURSIVE named AS (
    SELECT w.name, pg_catalog.to_regclass(w.name)::pg_catalog.oid AS oid
    FROM pg_catalog.json_array_elements_text(pg_catalog.json_extract_path($1::pg_catalog.json, 'names')) AS w(name)
), types(oid) AS (
    SELECT pg_catalog.to_regtype(w.name)::pg_catalog.oid
    FROM pg_catalog.json_array_elements_text(pg_catalog.json_extract_path($1::pg_catalog.json, 'types')) AS w(name)
    UNION
    SELECT y.oid FROM types t JOIN pg_catalog.pg_type y ON y.typbasetype OPERATOR(pg_catalog.=) t.oid OR y.typelem OPERATOR(pg_catalog.=) t.oid
), reached(oid) AS (
    (SELECT n.oid FROM named n WHERE pg_catalog.json_extract_path_text($1::pg_catalog.json, 'reaches')::pg_catalog.bool AND n.oid IS NOT NULL
    UNION
    SELECT a.attrelid FROM types t JOIN pg_catalog.pg_attribute a ON a.atttypid OPERATOR(pg_catalog.=) t.oid
        JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid
    WHERE NOT a.attisdropped AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,f,m,c}'::pg_catalog."char"[]))
    UNION
    SELECT x.oid FROM reached r CROSS JOIN LATERAL (
        SELECT h.inhrelid FROM pg_catalog.pg_inherits h WHERE h.inhparent OPERATOR(pg_catalog.=) r.oid
        UNION ALL
        SELECT k.conrelid FROM pg_catalog.pg_constraint k
        WHERE k.contype OPERATOR(pg_catalog.=) 'f'::pg_catalog."char" AND k.confrelid OPERATOR(pg_catalog.=) r.oid
    ) AS x(oid)
), told AS (
    SELECT n.name, n.oid FROM named n UNION ALL SELECT NULL, r.oid FROM reached r
)
SELECT pg_catalog.encode(pg_catalog.convert_to(COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
    w.name, c.oid::pg_catalog.int8, c.relkind, n.nspname,
    EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid AND NOT t.tgisinternal
        AND t.tgenabled OPERATOR(pg_catalog.<>) 'D'::pg_catalog."char")
    OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid
        AND r.ev_type OPERATOR(pg_catalog.<>) '1'::pg_catalog."char")
)), '[]'::pg_catalog.json)::pg_catalog.text, 'UTF8'), 'hex')
FROM told w LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) w.oid
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
