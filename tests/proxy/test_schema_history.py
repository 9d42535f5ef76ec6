"""The text of pg_dump, made the same for the same schema, and compared."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.schema_history.compare import columns, summary
from proxy.schema_history.dump import objects, text_of
from proxy.schema_history.model import SchemaObject, SchemaVersion
from proxy.schema_history.store import SchemaStore, UnknownVersionError

HEAD = "--\n-- PostgreSQL database dump\n--\n\n\\restrict {key}\n\n-- Dumped from database version {v}\n\nSET statement_timeout = 0;\n\n"
TABLE = '--\n-- Name: {name}; Type: TABLE; Schema: public; Owner: me\n--\n\nCREATE TABLE public.{name} (\n    id integer NOT NULL,\n    "b c" text\n);\n\n\n'
FUNCTION = (
    "--\n-- Name: f(); Type: FUNCTION; Schema: public; Owner: me\n--\n\nCREATE FUNCTION public.f() RETURNS void\n    AS $_${body}$_$;\n\n\n"
)
SET = "SET default_tablespace = '';\n\nSET default_table_access_method = heap;\n\n"
END = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict {key}\n\n"


def dumped(*parts: str, key: str = "abc", v: str = "18.6") -> str:
    return HEAD.format(key=key, v=v) + "".join(parts) + END.format(key=key)


def test_order_keys_and_versions_make_no_difference() -> None:
    one = dumped(FUNCTION.format(body=" x "), SET, TABLE.format(name="a"), TABLE.format(name="b"))
    two = dumped(SET, TABLE.format(name="b"), TABLE.format(name="a"), FUNCTION.format(body=" x "), key="other", v="15.1")
    assert objects(one) == objects(two)
    assert [o.shown for o in objects(one)] == ["table public.a", "table public.b", "function public.f()"]
    assert "restrict" not in text_of(objects(one))


@pytest.mark.parametrize("quote", ["'", '"', "$$", "$a$"])
def test_what_looks_like_an_object_inside_a_body_or_a_name_is_none(quote: str) -> None:
    fake = f"{quote}\n--\n-- Name: evil; Type: TABLE; Schema: public; Owner: me\n--\nSET row_security = off;\n{quote}"
    found = objects(dumped(FUNCTION.format(body=f" SELECT {fake} "), TABLE.format(name="a")))
    assert [o.name for o in found] == ["a", "f()"]
    assert "SET row_security = off;" in found[1].ddl, "a body is kept as it is"
    assert objects(dumped(FUNCTION.format(body=" SET x = 1 "))) != objects(dumped(FUNCTION.format(body=" SET x = 2 ")))


def test_a_database_without_anything_in_it_is_an_empty_schema() -> None:
    assert objects(dumped()) == []


def test_an_open_quote_in_a_comment_hides_nothing() -> None:
    comment = "--\n-- Name: it's; Type: COMMENT; Schema: public; Owner: me\n--\n\nCOMMENT ON TABLE public.a IS E'a \\\\'' b';\n\n"
    assert [o.name for o in objects(dumped(comment, TABLE.format(name="z")))] == ["it's", "z"]


def test_passwords_are_blanked_and_nothing_else() -> None:
    mapping = (
        "--\n-- Name: USER MAPPING me SERVER far; Type: USER MAPPING; Schema: -; Owner: me\n--\n\n"
        "CREATE USER MAPPING FOR me SERVER far OPTIONS (\n    password 'hun''ter2',\n    \"user\" 'u'\n);\n\n"
    )
    (found,) = objects(dumped(mapping))
    assert "hun" not in found.ddl
    assert "ter2" not in found.ddl
    assert "\"user\" 'u'" in found.ddl


def table(*rows: str, owner: str = "me") -> SchemaObject:
    return SchemaObject("TABLE", "public", "a", owner, "CREATE TABLE public.a (\n" + ",\n".join(f"    {c}" for c in rows) + "\n);")


def test_a_summary_says_what_changed() -> None:
    before = [table("id integer", '"b c" text', "CONSTRAINT x CHECK ((id > 0))"), SchemaObject("VIEW", "public", "v", "me", "CREATE VIEW")]
    now = [
        table("id bigint", "added date DEFAULT '2020-01-01'::date", owner="you"),
        SchemaObject("INDEX", "public", "i", "me", "CREATE INDEX"),
    ]
    assert summary(before, now) == (
        '~ table public.a (owner me is you now, column added added, column "b c" dropped, column id changed: integer is bigint now)',
        "+ index public.i",
        "- view public.v",
    )
    assert summary(now, now) == ()
    assert dict(columns(before[0].ddl)) == {"id": "integer", '"b c"': "text"}


def version() -> SchemaVersion:
    return SchemaVersion(0, "", datetime(2026, 1, 1, tzinfo=UTC), by=("me",))


@pytest.mark.parametrize("database", ["plain", "..", ".", "a/b\\c", "a\nb", 'q"', "ü" * 31, "index.json"])
def test_versions_are_kept_whatever_the_database_is_called(tmp_path: Path, database: str) -> None:
    store = SchemaStore(tmp_path / "schema")
    kept = store.add(database, [table("id int")], version())
    assert (kept.number, store.versions(database), store.databases()) == (1, [kept], [database])
    assert store.objects(database, kept) == [table("id int")]
    assert {p.parent.parent for p in tmp_path.rglob("index.json")} == {tmp_path / "schema"}
    assert all(p.stat().st_mode & 0o077 == 0 for p in tmp_path.rglob("*.gz"))


def test_the_oldest_go_and_what_the_others_need_stays(tmp_path: Path) -> None:
    store = SchemaStore(tmp_path, keep=3)
    for number in (1, 2, 1, 3, 4):
        store.add("d", [table(f"c{number} int")], version())
    found = store.versions("d")
    assert [v.number for v in found] == [3, 4, 5]
    assert [store.objects("d", v) for v in found] == [[table(f"c{n} int")] for n in (1, 3, 4)]
    assert len(list(tmp_path.rglob("*.gz"))) == 3


def test_a_changed_file_is_said_to_be_changed(tmp_path: Path) -> None:
    store = SchemaStore(tmp_path)
    kept = store.add("d", [table("id int")], version())
    path = next(tmp_path.rglob("*.gz"))
    path.write_bytes(b"\x1f\x8b broken")
    with pytest.raises(UnknownVersionError, match="damaged"):
        store.objects("d", kept)
    path.unlink()
    with pytest.raises(UnknownVersionError, match="not there"):
        store.objects("d", kept)
