-- Tables of every kind, for copies that must come back as they were. Runs on PostgreSQL 15 and later, as a superuser, in an empty database.
-- The roles are those of the server: made when they are not there.
SET client_min_messages = warning;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'zoo owner') THEN CREATE ROLE "zoo owner"; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'zoo_reader') THEN CREATE ROLE zoo_reader; END IF;
END $$;

CREATE SCHEMA zoo;
GRANT USAGE ON SCHEMA zoo TO zoo_reader, "zoo owner";
GRANT CREATE ON SCHEMA zoo TO "zoo owner";
CREATE SCHEMA "odd ""schema""; name";

-- Types.
CREATE TYPE zoo.mood AS ENUM ('sad', 'it''s ok', 'calm', 'happy');
CREATE DOMAIN zoo.positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN zoo.email AS text NOT NULL CHECK (VALUE LIKE '%@%');
CREATE TYPE zoo.address AS (street text, no integer, at point);
CREATE TYPE zoo.span AS RANGE (subtype = timestamptz);
CREATE SEQUENCE zoo.ticket START 1000 INCREMENT 7 CACHE 3;
SELECT nextval('zoo.ticket'), nextval('zoo.ticket');

CREATE FUNCTION zoo.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.touched := coalesce(NEW.touched, 0) + 1;
    RETURN NEW;
END $$;

-- The middle of everything: identity, generated, defaults from a sequence, checks, all kinds of values.
CREATE TABLE zoo.animal (
    id bigint GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 3) PRIMARY KEY,
    serial_no serial,
    ticket bigint DEFAULT nextval('zoo.ticket') NOT NULL,
    gone text,
    name text COLLATE "C" NOT NULL,
    loud text GENERATED ALWAYS AS (upper(name)) STORED,
    mood zoo.mood DEFAULT 'happy',
    legs zoo.positive DEFAULT 4,
    contact zoo.email DEFAULT 'zoo@example.com',
    home zoo.address,
    homes zoo.address[],
    tags text[] DEFAULT '{}',
    matrix integer[][],
    plan json,
    facts jsonb DEFAULT '{}',
    picture bytea,
    weight double precision,
    height real,
    price numeric(20, 5),
    cost money,
    born date,
    fed timestamptz,
    every interval,
    awake zoo.span,
    ip inet,
    flags bit varying(12),
    key uuid,
    words tsvector,
    code character(6),
    kind "char",
    relation regclass,
    proc regproc,
    touched integer DEFAULT 0,
    photo oid,
    CONSTRAINT "sane weight" CHECK (weight IS NULL OR weight = 'NaN' OR weight < 1e6),
    CONSTRAINT animal_ticket_key UNIQUE (ticket) DEFERRABLE INITIALLY DEFERRED
);
ALTER TABLE zoo.animal DROP COLUMN gone;
ALTER TABLE zoo.animal ALTER COLUMN picture SET STORAGE EXTERNAL;
ALTER TABLE zoo.animal ALTER COLUMN name SET STATISTICS 500;
ALTER TABLE zoo.animal SET (fillfactor = 70, autovacuum_enabled = false);
INSERT INTO zoo.animal (name, mood, home, homes, tags, matrix, plan, facts, picture, weight, height, price, cost, born, fed, every, awake, ip, flags, key, words, code, kind, relation, proc)
SELECT 'animal ' || g,
       (ARRAY['sad', 'it''s ok', 'calm', 'happy', NULL])[1 + g % 5]::zoo.mood,
       CASE WHEN g % 3 = 0 THEN NULL ELSE ROW('Main "street", \ ' || g, g, point(g, -g))::zoo.address END,
       ARRAY[ROW('a', NULL, NULL)::zoo.address, NULL],
       ARRAY['x', 'NULL', NULL, 'with,comma', '{brace}', ''],
       ARRAY[[g, 2], [3, NULL]],
       '{"b" : 1,   "a": [null, "\u00e9"], "b": 2}',
       jsonb_build_object('n', g / 3.0, 'unicode', 'ü€𝄞', 'nil', NULL),
       CASE WHEN g % 4 = 0 THEN decode(repeat(md5(g::text), 2000), 'hex') ELSE '\x00ff5c27' END,
       (ARRAY['NaN', '-0', '0', '1.1', '-1e-300', '-Infinity'])[1 + g % 6]::float8,
       g / 7.0, g * 1.10000, g * 1.5, '2000-02-29'::date - g * 1000,
       '2026-11-25 12:00:00.123456+05:30'::timestamptz + g * interval '1 hour',
       make_interval(years => g % 3, days => g, secs => g + 0.5),
       zoo.span('2020-01-01 00:00+00', CASE WHEN g % 2 = 0 THEN NULL ELSE timestamptz '2021-01-01 00:00+00' END),
       ('10.0.' || g % 256 || '.1/24')::inet, B'10101', md5(g::text)::uuid,
       to_tsvector('simple', 'the quick ' || g), 'ab', 'k', 'zoo.ticket', 'zoo.touch'
FROM generate_series(1, 60) g;
INSERT INTO zoo.animal (name, tags, facts) VALUES ('', NULL, NULL), (E'tab\tnew\nline\\N"quote"''', '{}', 'null'), ('\N', '{NULL}', '""');
UPDATE zoo.animal SET photo = lo_from_bytea(0, decode(repeat('cafe', 5000), 'hex')) WHERE name = 'animal 1';
UPDATE zoo.animal SET photo = lo_from_bytea(0, '') WHERE name = 'animal 2';
CREATE INDEX animal_by_name ON zoo.animal (lower(name) text_pattern_ops) INCLUDE (mood) WHERE mood IS NOT NULL;
CREATE INDEX animal_words ON zoo.animal USING gin (words);
CREATE UNIQUE INDEX "animal Odd Index" ON zoo.animal (key, id DESC NULLS LAST);
ALTER TABLE zoo.animal CLUSTER ON animal_pkey;
ALTER TABLE zoo.animal REPLICA IDENTITY USING INDEX animal_pkey;
CREATE STATISTICS zoo.animal_stats (dependencies, ndistinct) ON legs, mood FROM zoo.animal;
CREATE TRIGGER animal_touch BEFORE UPDATE OF mood ON zoo.animal FOR EACH ROW WHEN (OLD.mood IS DISTINCT FROM NEW.mood) EXECUTE FUNCTION zoo.touch();
CREATE TRIGGER animal_off BEFORE INSERT ON zoo.animal FOR EACH ROW EXECUTE FUNCTION zoo.touch();
ALTER TABLE zoo.animal DISABLE TRIGGER animal_off;
CREATE RULE animal_no_delete AS ON DELETE TO zoo.animal WHERE OLD.name = 'sacred' DO INSTEAD NOTHING;
ALTER TABLE zoo.animal ENABLE ROW LEVEL SECURITY;
CREATE POLICY animal_readers ON zoo.animal FOR SELECT TO zoo_reader USING (mood <> 'sad');
GRANT SELECT (id, name), UPDATE (mood) ON zoo.animal TO zoo_reader;
GRANT ALL ON zoo.animal TO "zoo owner" WITH GRANT OPTION;
COMMENT ON TABLE zoo.animal IS 'It''s all $here$; "quoted" \ and ünïcode';
COMMENT ON COLUMN zoo.animal.name IS 'what it is called';
COMMENT ON CONSTRAINT "sane weight" ON zoo.animal IS 'not too heavy';
COMMENT ON INDEX zoo.animal_words IS 'for the search';
COMMENT ON TRIGGER animal_touch ON zoo.animal IS 'counts';

-- Children by foreign key, of every kind; a cycle; a key to itself.
CREATE TABLE zoo.meal (
    animal bigint NOT NULL CONSTRAINT meal_of_animal REFERENCES zoo.animal ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE,
    no integer,
    what text,
    PRIMARY KEY (animal, no)
);
INSERT INTO zoo.meal SELECT id, n, 'meal ' || n FROM zoo.animal, generate_series(1, 3) n;
CREATE TABLE zoo.visit (
    id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    animal bigint DEFAULT 5 REFERENCES zoo.animal ON DELETE SET NULL,
    follows integer REFERENCES zoo.visit,
    at timestamptz DEFAULT '2026-01-01 00:00+00'
);
INSERT INTO zoo.visit (animal, follows) SELECT id, NULL FROM zoo.animal WHERE id % 2 = 0;
INSERT INTO zoo.visit (animal, follows) SELECT animal, id FROM zoo.visit;
COMMENT ON CONSTRAINT meal_of_animal ON zoo.meal IS 'who eats';
CREATE TABLE zoo.keeper (id integer PRIMARY KEY, favourite integer, name text UNIQUE NULLS NOT DISTINCT);
CREATE TABLE zoo.house (id integer PRIMARY KEY, keeper integer REFERENCES zoo.keeper);
INSERT INTO zoo.keeper VALUES (1, NULL, 'ana'), (2, NULL, 'bob');
INSERT INTO zoo.house VALUES (1, 1), (2, 1), (3, 2);
ALTER TABLE zoo.keeper ADD CONSTRAINT keeper_house FOREIGN KEY (favourite) REFERENCES zoo.house NOT VALID;
UPDATE zoo.keeper SET favourite = 3 WHERE id = 1;
ALTER TABLE zoo.keeper OWNER TO "zoo owner";
GRANT SELECT ON zoo.keeper TO PUBLIC;

-- Partitions, two levels and a default; a partition whose columns are in another order.
CREATE TABLE zoo.log (at date NOT NULL, level integer, message text, PRIMARY KEY (at, level)) PARTITION BY RANGE (at);
CREATE TABLE zoo.log_2025 PARTITION OF zoo.log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (level);
CREATE TABLE zoo.log_2025_low PARTITION OF zoo.log_2025 FOR VALUES IN (1, 2);
CREATE TABLE zoo.log_2025_rest PARTITION OF zoo.log_2025 DEFAULT;
CREATE TABLE zoo.log_2026 (dropped text, message text, level integer NOT NULL, at date NOT NULL);
ALTER TABLE zoo.log_2026 DROP COLUMN dropped;
ALTER TABLE zoo.log ATTACH PARTITION zoo.log_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE zoo.log_hash (id integer, mood zoo.mood) PARTITION BY HASH (id);
CREATE TABLE zoo.log_hash_0 PARTITION OF zoo.log_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE zoo.log_hash_1 PARTITION OF zoo.log_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO zoo.log SELECT date '2025-01-01' + g, g % 5, 'line ' || g FROM generate_series(1, 700) g;
INSERT INTO zoo.log_hash SELECT g, 'calm' FROM generate_series(1, 100) g;
CREATE INDEX log_message ON zoo.log (message);
CREATE TABLE zoo.log_note (at date, level integer, note text, FOREIGN KEY (at, level) REFERENCES zoo.log);
INSERT INTO zoo.log_note SELECT at, level, 'note' FROM zoo.log WHERE level = 3;

-- Inheritance. (No column that came to the parent later: pg_dump itself gives it another place in the child.)
CREATE TABLE zoo.base (id integer, label text DEFAULT 'base', later integer DEFAULT 9);
CREATE TABLE zoo.derived (extra text) INHERITS (zoo.base);
INSERT INTO zoo.base VALUES (1, 'one'), (2, NULL);
INSERT INTO zoo.derived (id, label, extra) VALUES (3, 'three', 'more'), (3, 'three', 'more');

-- Values of size, kept outside of the row; duplicates; no rows; no columns; no log.
CREATE TABLE zoo.big (id integer PRIMARY KEY, body text, raw bytea);
INSERT INTO zoo.big SELECT g, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 3000 * g)), decode(repeat(md5(g::text), 4000), 'hex') FROM generate_series(1, 6) g;
CREATE TABLE zoo.twice (a text, b text);
INSERT INTO zoo.twice VALUES ('x', 'y'), ('x', 'y'), (NULL, ''), ('', NULL), ('a,b', 'c'), ('a', 'b,c');
CREATE TABLE zoo.empty (id integer PRIMARY KEY);
CREATE TABLE zoo.nothing ();
INSERT INTO zoo.nothing DEFAULT VALUES;
INSERT INTO zoo.nothing DEFAULT VALUES;
CREATE UNLOGGED TABLE zoo.unlogged (id integer);
INSERT INTO zoo.unlogged VALUES (1), (2);

-- Names.
CREATE TABLE "odd ""schema""; name"."table ""with"" 'all', $1; --" ("select" integer PRIMARY KEY, "col ""q""" text, "späce é" text, "a.b" text);
INSERT INTO "odd ""schema""; name"."table ""with"" 'all', $1; --" VALUES (1, 'one', 'ä', 'dot'), (2, '"', '''', ';');
CREATE TABLE "odd ""schema""; name"."line
break" (id integer);
INSERT INTO "odd ""schema""; name"."line
break" VALUES (1);
CREATE TABLE zoo."sixty_three_bytes_long_name_of_a_table_that_goes_up_to_the_limit" (id integer, "*" text);
INSERT INTO zoo."sixty_three_bytes_long_name_of_a_table_that_goes_up_to_the_limit" VALUES (1, '*');
CREATE TABLE zoo."Keeper" (id integer REFERENCES zoo.keeper, "Name" text);
INSERT INTO zoo."Keeper" VALUES (1, 'not the other one');

-- What depends on them.
CREATE VIEW zoo.loud_animal AS SELECT id, loud, mood FROM zoo.animal WHERE mood IS NOT NULL;
COMMENT ON VIEW zoo.loud_animal IS 'a view';
GRANT SELECT ON zoo.loud_animal TO zoo_reader;
CREATE VIEW zoo.loud_view AS SELECT loud FROM zoo.loud_animal WITH CASCADED CHECK OPTION;
CREATE MATERIALIZED VIEW zoo.meals AS SELECT a.name, count(*) AS meals FROM zoo.animal a JOIN zoo.meal m ON m.animal = a.id GROUP BY a.name;
CREATE UNIQUE INDEX meals_by_name ON zoo.meals (name);
CREATE VIEW zoo.keeper_houses AS SELECT k.*, h.id AS house FROM zoo.keeper k LEFT JOIN zoo.house h ON h.keeper = k.id;
CREATE FUNCTION zoo.animals() RETURNS SETOF zoo.animal LANGUAGE sql STABLE AS 'SELECT * FROM zoo.animal';
CREATE FUNCTION zoo.count_meals() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) FROM zoo.meal; END;
CREATE PUBLICATION zoo_publication FOR TABLE zoo.animal (id, name), zoo.keeper WHERE (id > 0);
CREATE TABLE public.plain (id serial PRIMARY KEY, v text);
INSERT INTO public.plain (v) SELECT 'v' || g FROM generate_series(1, 50) g;
ALTER DEFAULT PRIVILEGES IN SCHEMA zoo GRANT SELECT ON TABLES TO zoo_reader;
