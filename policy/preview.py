"""The SELECT that finds the rows which a DELETE, UPDATE or MERGE changes: to count and show them before, and to copy them.

The grammar's tree says what there is, the scanner's tokens say where: the clauses of these statements begin with reserved words, which at the
statement's own level can be nothing else (behind a dot they are names, and are skipped). What is cut out is parsed again by itself and must give
the very tree that the statement has there; otherwise there is no preview. So the text of a condition is taken as it was written, never made anew.

Joined relations (USING, FROM, the source of MERGE) go into an EXISTS, so that no row comes twice and rows can be locked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from policy.bounds import look
from policy.conditions import Surroundings, judge_condition
from policy.facts import Condition, Relation
from policy.nodes import items, only, strings, walk
from policy.parse import GrammarError, Json, Node, TooDeepError, parse, scan, tree, without_comments

#: SQL text, and numbers of parameters.
Template = tuple[str | int, ...]

_VERBS: Final = {"DeleteStmt": "DELETE", "UpdateStmt": "UPDATE", "MergeStmt": "MERGE"}
_CHANGING: Final = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


class PreviewError(ValueError):
    """There is no such SELECT, or a parameter has no value. The message says why."""


class _NoPreview(Exception):
    """Why there is none."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One DELETE, UPDATE or MERGE at the top level of a script.

    Attributes:
        statement: its index in the script.
        verb: "DELETE", "UPDATE" or "MERGE"; empty when the script could not be read at all.
        relation: the target as written.
        alias: of the target; empty without one.
        is_only: ONLY: without children and partitions.
        parameters: numbers of the $n that the SELECT has.
        problem: why there is no SELECT; empty when there is.
        can_insert: it may insert rows as well, which no SELECT finds.
        filtered: a real condition decides which rows, not one that is true for all.
        functions: names of those that the condition calls, the last part; operators: likewise. attributes: names written as `x.name`, which
            may mean a function of one argument (sql-expressions.html#FIELD-SELECTION).
        reads: the other relations that it reads.
    """

    statement: int
    verb: str
    relation: Relation
    alias: str = ""
    is_only: bool = False
    parameters: tuple[int, ...] = ()
    problem: str = ""
    can_insert: bool = False
    filtered: bool = False
    functions: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    reads: tuple[Relation, ...] = ()
    #: For select(): the WITH clause, the condition, and whether the condition has `schema.table.column` of the target.
    with_clause: Template = ()
    condition: Template = ()
    is_qualified: bool = False

    def select(
        self, columns: str, *, relation: str | None = None, lock: bool = False, values: Mapping[int, str | None] | None = None
    ) -> str:
        """`SELECT columns FROM relation WHERE …`, one row for each that the statement changes now.

        Args:
            columns: SQL; the target's columns are in sight, under its alias or its name.
            relation: the target, qualified and quoted, instead of the name as written.
            lock: rows are locked FOR UPDATE.
            values: put into the places of parameters as quoted literals, which the server types as it does parameters without a type; None
                is NULL. Without it the parameters stay, by their numbers.

        Raises PreviewError.
        """
        if self.problem:
            raise PreviewError(self.problem)
        own = ".".join(quoted(part) for part in (self.relation.schema, self.relation.name) if part)
        name = self.alias or self.relation.name
        # An alias would take the meaning away from schema.table.column.
        has_alias = bool(self.alias) or (relation is not None and not self.is_qualified)
        parts = [
            _filled(self.with_clause, values),
            f"SELECT {columns} FROM {'ONLY ' if self.is_only else ''}{relation or own}{f' AS {quoted(name)}' if has_alias else ''}",
            f"WHERE {_filled(self.condition, values)}" if self.condition else "",
            f"FOR UPDATE OF {quoted(name)}" if lock else "",
        ]
        return " ".join(part for part in parts if part)


def quoted(name: str) -> str:
    """As an identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _filled(template: Template, values: Mapping[int, str | None] | None) -> str:
    return "".join(part if isinstance(part, str) else _value(part, values) for part in template)


def _value(number: int, values: Mapping[int, str | None] | None) -> str:
    if values is None:
        return f"${number}"
    if number not in values:
        raise PreviewError(f"parameter ${number} has no value")
    value = values[number]
    if value is None:
        return " NULL "
    if "\0" in value:
        raise PreviewError(f"parameter ${number} is no text")
    literal = value.replace("'", "''")
    # E'' reads backslashes the same whatever standard_conforming_strings is.
    return f" E'{literal.replace(chr(92), chr(92) * 2)}' " if "\\" in literal else f" '{literal}' "


def previews(script: str, *, standard_conforming_strings: bool = True) -> tuple[Preview, ...]:
    """For each DELETE, UPDATE and MERGE that is a statement of the script, in order. Never raises.

    What is inside of others (WITH … SELECT, EXPLAIN ANALYZE, DO, PREPARE) is not among them. A script that cannot be read gives one Preview with
    a problem and without a verb.
    """
    try:
        return tuple(_previews(script, standard_conforming_strings))
    except _NoPreview as why:
        return (Preview(0, "", Relation("", ""), problem=str(why)),)


def _previews(script: str, standard_strings: bool) -> Iterator[Preview]:
    try:
        text = script.encode()
    except UnicodeEncodeError:
        raise _NoPreview("the script is no valid text") from None
    if b"\0" in text:
        raise _NoPreview("the script has a NUL in it")
    if not standard_strings and b"\\" in text:
        raise _NoPreview("backslashes in its strings mean something else in that session")
    if (problem := look(text)) is not None:
        raise _NoPreview(problem)
    text = without_comments(text) or text
    statements = _tree(text)
    tokens = scan(text)
    if tokens is None:
        raise _NoPreview("the script cannot be scanned")
    for index, raw in enumerate(statements):
        tag, fields = only(raw["stmt"])
        if tag not in _VERBS:
            continue
        start = cast(int, raw.get("stmt_location", 0))
        size = cast(int, raw.get("stmt_len", 0))
        end = start + size if size else len(text)
        own = [(a, b, text[a:b].lower()) for a, b, _ in tokens if start <= a and b <= end]
        yield _Reader(text, own, _VERBS[tag], fields, index).preview()


def _tree(text: bytes) -> list[Node]:
    try:
        return tree(parse(text))
    except GrammarError as error:
        raise _NoPreview(f"the grammar rejects it: {error}") from None
    except TooDeepError:
        raise _NoPreview("it nests too deep") from None


#: Start, end and text in small letters.
Token = tuple[int, int, bytes]


class _Reader:
    """Cuts one statement into its clauses."""

    def __init__(self, text: bytes, tokens: list[Token], verb: str, fields: Node, index: int) -> None:
        self._text = text
        self._tokens = tokens
        self._verb = verb
        self._fields = fields
        self._index = index
        target = cast(Node, fields["relation"])
        self._relation = Relation(str(target.get("schemaname", "")), str(target.get("relname", "")))
        self._alias = str(cast(Node, target.get("alias", {})).get("aliasname", ""))
        self._is_only = not target.get("inh", False)
        self._at = cast(int, target.get("location", 0))
        #: The parts of the tree that the SELECT is made of.
        self._used: list[Json] = []

    def preview(self) -> Preview:
        verb, fields = self._verb, self._fields
        can_insert = any(only(w)[1].get("commandType") == "CMD_INSERT" for w in items(fields, "mergeWhenClauses"))
        filtered = self._is_filtered()
        try:
            with_clause = self._with()
            condition = self._merge() if verb == "MERGE" else self._change("usingClause" if verb == "DELETE" else "fromClause")
            names = names_in(cast(Json, self._used))
            result = Preview(
                self._index,
                verb,
                self._relation,
                self._alias,
                self._is_only,
                tuple(sorted({p for p in (*with_clause, *condition) if isinstance(p, int)})),
                can_insert=can_insert,
                filtered=filtered,
                functions=names.functions,
                operators=names.operators,
                attributes=names.attributes,
                reads=names.reads,
                with_clause=with_clause,
                condition=condition,
                is_qualified=not self._alias and any(self._is_own(c) for c in self._columns()),
            )
            self._check(result)
        except _NoPreview as why:
            return Preview(
                self._index, verb, self._relation, self._alias, self._is_only, problem=str(why), can_insert=can_insert, filtered=filtered
            )
        return result

    # --- clauses ------------------------------------------------------------------------------------------------

    def _with(self) -> Template:
        clause = self._fields.get("withClause")
        if clause is None:
            return ()
        names = {str(only(c)[1].get("ctename")) for c in items(cast(Node, clause), "ctes")}
        if not self._relation.schema and self._relation.name in names:
            raise _NoPreview("its target has the name of its WITH query")
        if any(key in _CHANGING for key, _ in walk(clause)):
            raise _NoPreview("its WITH clause changes rows as well")
        verb = self._verb.lower().encode()
        # Backwards from the target: (, ONLY, FROM or INTO, and the verb.
        before = [t for t in self._tokens if t[0] < self._at]
        while before and before[-1][2] in (b"(", b"only", b"from", b"into"):
            before.pop()
        if len(before) < 2 or before[-1][2] != verb:
            raise _NoPreview("its WITH clause was not found")
        found = self._cut(before[0][0], before[-2][1])
        self._expect(b"%b SELECT 1" % self._raw(before[0][0], before[-2][1]), "withClause", clause)
        return found

    def _change(self, others: str) -> Template:
        fields = self._fields
        marks = self._marks(b"where", b"returning", b"using" if others == "usingClause" else b"from")
        end = self._tokens[-1][1] if self._tokens[-1][2] != b";" else self._tokens[-2][1]
        returning = next((t for t in marks if t[2] == b"returning"), None)
        if returning is not None:
            end = self._before(returning)
        where = next((t for t in marks if t[2] == b"where"), None)
        condition: Template = ()
        if "whereClause" in fields:
            if where is None:
                raise _NoPreview("its WHERE was not found")
            condition = self._expression(where[1], end, fields["whereClause"])
            end = self._before(where)
        if others not in fields:
            return condition
        join = next((t for t in marks if t[2] in (b"using", b"from")), None)
        if join is None:
            raise _NoPreview("what it joins was not found")
        source = self._source(join[1], end, items(fields, others))
        return ("EXISTS (SELECT 1 FROM ", *source, *(" WHERE ", *condition) * bool(condition), ")")

    def _merge(self) -> Template:
        fields = self._fields
        marks = self._marks(b"using", b"on", b"when", b"then", b"returning")
        using = next((t for t in marks if t[2] == b"using"), None)
        first = next((n for n, t in enumerate(marks) if t[2] == b"when"), 0)
        on = next((t for t in reversed(marks[:first]) if t[2] == b"on"), None)
        if using is None or on is None:
            raise _NoPreview("its USING … ON was not found")
        source = self._source(using[1], self._before(on), [fields["sourceRelation"]])
        joined = self._expression(on[1], self._before(marks[first]), fields["joinCondition"])
        cases: dict[str, list[str | int]] = {}
        whens = [t for t in marks if t[2] == b"when"]
        clauses = [only(c)[1] for c in items(fields, "mergeWhenClauses")]
        if len(whens) != len(clauses):
            raise _NoPreview("its WHEN clauses were not found")
        for when, clause in zip(whens, clauses, strict=True):
            kind = str(clause.get("matchKind"))
            if kind == "MERGE_WHEN_NOT_MATCHED_BY_TARGET":
                continue
            then = next((t for t in marks if t[2] == b"then" and t[0] > when[0]), None)
            if then is None:
                raise _NoPreview("its WHEN clauses were not found")
            head = [t for t in self._tokens if when[0] < t[0] < then[0]]
            condition: Template = ("true",)
            if "condition" in clause:
                start = next((t for t in head if t[2] == b"and"), None)
                if start is None:
                    raise _NoPreview("its WHEN clauses were not found")
                condition = self._expression(start[1], self._before(then), clause["condition"])
            changes = clause.get("commandType") in ("CMD_DELETE", "CMD_UPDATE")
            # Of each kind the first whose condition is true decides.
            cases.setdefault(kind, []).extend((" WHEN ", *condition, f" THEN {'true' if changes else 'false'}"))
        found: list[str | int] = []
        if matched := cases.get("MERGE_WHEN_MATCHED"):
            found += ["EXISTS (SELECT 1 FROM ", *source, " WHERE ", *joined, " AND CASE", *matched, " ELSE false END)"]
        if alone := cases.get("MERGE_WHEN_NOT_MATCHED_BY_SOURCE"):
            found += [" OR "] if found else []
            found += ["NOT EXISTS (SELECT 1 FROM ", *source, " WHERE ", *joined, ") AND CASE", *alone, " ELSE false END"]
        return tuple(found) or ("false",)

    # --- text ---------------------------------------------------------------------------------------------------

    def _marks(self, *words: bytes) -> list[Token]:
        """These keywords behind the target's name, outside of parentheses, brackets and CASE … END."""
        found: list[Token] = []
        depth = 0
        before = b""
        older = b""
        for token in self._tokens:
            word = token[2]
            if token[0] <= self._at:
                continue
            if word in (b"(", b"[") or (word == b"case" and before not in (b".", b"as")):
                depth += 1
            elif word in (b")", b"]") or (word == b"end" and before != b"."):
                depth -= 1
            # Below 0 behind ONLY (name).
            elif depth <= 0 and word in words and before != b"." and not (word == b"from" and before == b"distinct" and older != b"."):
                found.append(token)
            if word == b")" and depth < 0:
                depth = 0
            older, before = before, word
        return found

    def _before(self, token: Token) -> int:
        """Where the token before this one ends."""
        return max(t[1] for t in self._tokens if t[1] <= token[0])

    def _raw(self, start: int, end: int) -> bytes:
        return self._text[start:end].strip()

    def _cut(self, start: int, end: int) -> Template:
        """The text with its parameters taken out, which the scanner tells from what only looks like one."""
        parts: list[str | int] = []
        at = start
        for a, b, word in self._tokens:
            if start <= a and b <= end and word[:1] == b"$" and word[1:].isdigit():
                parts += [self._text[at:a].decode(), int(word[1:])]
                at = b
        parts.append(self._text[at:end].decode().rstrip())
        if isinstance(first := parts[0], str):
            parts[0] = first.lstrip()
        return tuple(parts)

    def _expression(self, start: int, end: int, node: Json) -> Template:
        if any(key == "CurrentOfExpr" for key, _ in walk({"x": node})):
            raise _NoPreview("it is about the current row of a cursor")
        self._expect(b"SELECT 1 WHERE (%b)" % self._raw(start, end), "whereClause", node)
        return ("(", *self._cut(start, end), ")")

    def _source(self, start: int, end: int, nodes: list[Json]) -> Template:
        self._expect(b"SELECT 1 FROM %b" % self._raw(start, end), "fromClause", nodes)
        return self._cut(start, end)

    def _expect(self, text: bytes, field: str, node: Json) -> None:
        """A text that was cut out must mean what the statement means there."""
        statements = _tree(text)
        fields = only(statements[0]["stmt"])[1] if len(statements) == 1 else {}
        if not _same(fields.get(field), node):
            raise _NoPreview("a part of it could not be cut out")
        self._used.append(node)

    def _check(self, preview: Preview) -> None:
        statements = _tree(preview.select("1", lock=True).encode())
        if len(statements) != 1 or only(statements[0]["stmt"])[0] != "SelectStmt":
            raise _NoPreview("no SELECT could be made of it")

    # --- what it is about ---------------------------------------------------------------------------------------

    def _columns(self) -> Iterator[list[str]]:
        for key, value in walk(cast(Json, self._used)):
            if key == "ColumnRef" and isinstance(value, dict):
                yield strings(items(value, "fields"))

    def _is_own(self, column: list[str]) -> bool:
        return len(column) >= 3 and column[-2] == self._relation.name

    def _is_filtered(self) -> bool:
        fields, table = self._fields, self._relation
        if self._verb != "MERGE":
            others = "usingClause" in fields or "fromClause" in fields
            return judge_condition(fields.get("whereClause"), Surroundings(table.name, self._alias, others, None)) is Condition.FILTERED
        surroundings = Surroundings(table.name, self._alias, False, None)
        by_join = judge_condition(fields.get("joinCondition"), surroundings) is Condition.FILTERED
        for clause in (only(c)[1] for c in items(fields, "mergeWhenClauses")):
            if clause.get("commandType") not in ("CMD_DELETE", "CMD_UPDATE"):
                continue
            own = judge_condition(clause.get("condition"), surroundings) in (Condition.FILTERED, Condition.NEVER)
            if not own and not (by_join and clause.get("matchKind") == "MERGE_WHEN_MATCHED"):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Names:
    """What a piece of SQL calls and reads; see Preview."""

    functions: tuple[str, ...]
    operators: tuple[str, ...]
    attributes: tuple[str, ...]
    reads: tuple[Relation, ...]


def names_of_query(query: str) -> Names | None:
    """Of a whole query, such as the definition of a view; None when it cannot be read."""
    text = query.encode(errors="replace")
    if look(text) is not None:
        return None
    try:
        return names_in([cast(Json, raw) for raw in _tree(text)])
    except _NoPreview:
        return None


def names_in(root: Json) -> Names:
    """Of a part of the grammar's tree."""
    functions: set[str] = set()
    operators: set[str] = set()
    attributes: set[str] = set()
    reads: set[Relation] = set()
    ctes: set[str] = set()
    for key, value in walk(root):
        if not isinstance(value, dict):
            continue
        if key == "FuncCall":
            functions.update(strings(items(value, "funcname"))[-1:])
        elif key == "A_Expr":
            operators.update(strings(items(value, "name"))[-1:])
        elif key == "SubLink":
            operators.update(strings(items(value, "operName"))[-1:])
        elif key in ("ColumnRef", "A_Indirection"):
            names = strings(items(value, "fields") or items(value, "indirection"))
            attributes.update(n for n in names[key == "ColumnRef" :] if n)
        elif key == "RangeVar":
            reads.add(Relation(str(value.get("schemaname", "")), str(value.get("relname", ""))))
        elif key == "CommonTableExpr":
            ctes.add(str(value.get("ctename")))
    found = tuple(sorted((r for r in reads if r.schema or r.name not in ctes), key=str))
    return Names(tuple(sorted(functions)), tuple(sorted(operators)), tuple(sorted(attributes)), found)


def _same(one: Json, other: Json) -> bool:
    """Whether two trees are equal but for places in the text."""
    stack = [(one, other)]
    while stack:
        a, b = stack.pop()
        if isinstance(a, dict) and isinstance(b, dict):
            keys = {k for k in (*a, *b) if not k.endswith(("location", "list_start", "list_end"))}
            stack += [(a.get(k), b.get(k)) for k in keys]
        elif isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return False
            stack += zip(a, b, strict=True)
        elif a != b:
            return False
    return True
