DROP TABLE "Users"
= drop-table

DROP TABLE IF EXISTS "Users" CASCADE; CREATE TABLE "Users" (id serial)
= drop-table

DROP SCHEMA public CASCADE; CREATE SCHEMA public
= drop-schema

TRUNCATE "Users", "Wallets" RESTART IDENTITY CASCADE
= truncate

DELETE FROM account WHERE id = 1 OR 1 = 1
= always-true-where

DELETE FROM account; UPDATE account SET a = 1
= delete-without-where update-without-where

ALTER TABLE account DROP COLUMN a, ADD COLUMN b int
= alter-table-drop-column

COPY account FROM PROGRAM 'curl example.org'
= copy-program

SELECT lo_import('/etc/passwd'), lo_unlink(1)
= large-object server-file
