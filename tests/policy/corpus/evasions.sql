COPY (DELETE FROM t RETURNING *) TO STDOUT
= delete-without-where

CREATE VIEW v AS SELECT lo_unlink(1)
= dangerous-stored-code

CREATE SCHEMA s CREATE VIEW v AS SELECT lo_unlink(1)
= dangerous-stored-code

CREATE DOMAIN d AS int CHECK (lo_unlink(1) > 0)
= large-object

CREATE OPERATOR !! (procedure = lo_unlink, rightarg = oid)
= large-object

CREATE AGGREGATE a(oid) (sfunc = lo_unlink, stype = int)
= large-object

CREATE CAST (text AS oid) WITH FUNCTION lo_unlink(oid)
= large-object

CREATE POLICY p ON t USING (lo_unlink(1) > 0)
= large-object

CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW WHEN (lo_unlink(1) > 0) EXECUTE FUNCTION f()
= large-object

CREATE FUNCTION f() RETURNS int LANGUAGE sql SET standard_conforming_strings = off AS 'SELECT 1'
= dangerous-persisted-setting

ALTER FUNCTION f() SET session_replication_role = replica
= dangerous-persisted-setting

DELETE FROM t WHERE (id, a) = (id, a)
= always-true-where

DELETE FROM t WHERE id = ANY(ARRAY[id, 3])
= always-true-where

DELETE FROM t WHERE coalesce(id = id, true)
= always-true-where

DELETE FROM t WHERE CASE WHEN id = 1 THEN true ELSE true END
= always-true-where

DELETE FROM t WHERE id > 0 OR id <= 0
= always-true-where

DELETE FROM t WHERE '1'::int = '01'::int
= unlinked-where

DELETE FROM t WHERE NULL IS UNKNOWN
= unlinked-where

DELETE FROM t WHERE id IN (SELECT id FROM t)
= always-true-where

DELETE FROM t WHERE EXISTS (SELECT 1 FROM other WHERE other.x = 1)
= unlinked-where

DELETE FROM t WHERE tableoid IS NOT NULL
= always-true-where

DELETE FROM t WHERE 'true'
= unlinked-where

DELETE FROM t WHERE upper(name) = upper(name)
= always-true-where

CREATE TEMP VIEW v AS SELECT * FROM t; DELETE FROM v
= delete-without-where

CREATE TEMP VIEW v AS SELECT * FROM t; DELETE FROM pg_temp.v
= delete-without-where

BEGIN; CREATE TEMP TABLE t (i int); ROLLBACK; DROP TABLE t
= drop-table

SELECT set_config(setting_name => 'standard_conforming_strings', new_value => 'off', is_local => false)
= unproven

ALTER ROLE bob SET session_replication_role = replica
= dangerous-persisted-setting

SELECT cron.schedule('* * * * *', 'DELETE FROM t')
= dangerous-function

EXPLAIN (ANALYZE off, ANALYZE on) DELETE FROM t
= delete-without-where

INSERT INTO t VALUES (1) RETURNING lo_unlink(1)
= large-object
