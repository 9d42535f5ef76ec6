SELECT c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','p','') ORDER BY 1
=

UPDATE account SET balance = balance - 1 WHERE id = 7 AND balance > 0 RETURNING *
=

INSERT INTO account (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET balance = excluded.balance
=

BEGIN; SELECT 1; COMMIT
=

SET search_path TO public; SET row_security = off
=

SELECT pg_catalog.setval('account_id_seq', 10, true)
=

CREATE TABLE IF NOT EXISTS account (id bigint GENERATED ALWAYS AS IDENTITY)
=
