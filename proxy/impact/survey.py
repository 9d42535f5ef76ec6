"""One hold's consequences, asked of the server step by step: what is known stays when a later question fails or takes too long."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import psycopg

from policy.facts import Facts, Relation
from policy.preview import Preview, PreviewError, quoted
from proxy.acts import tables_of
from proxy.control import first_line
from proxy.impact import catalog, rows
from proxy.impact.catalog import Address, Known, Link
from proxy.impact.effects import Target, not_followed
from proxy.impact.model import Consequences, Matching, Reached
from proxy.look import Sight
from proxy.model import Hold

#: Objects followed through pg_depend, and kept with the hold.
_FOLLOWED: Final = 20_000
KEPT: Final = 500
#: Tables counted one by one; the rest stays estimated.
_COUNTED: Final = 100
_LEVELS: Final = 60
#: Foreign keys are followed so deep to count the rows that go with others.
_KEYS_DEEP: Final = 5
_SOURCE: Final = "control connection"
_DDL: Final = frozenset({"DROP", "DROP COLUMN", "ALTER"})


@dataclass(slots=True)
class Survey:
    """Args:
    link: a control connection to the requester's database, with an empty search_path.
    facts: of the script; None when it could not be read.
    timeout_s: for each count.
    exact_rows: tables estimated to be smaller are counted.
    """

    link: Link
    hold: Hold
    facts: Facts | None
    targets: Sequence[Target]
    previews: Sequence[Preview]
    timeout_s: float
    exact_rows: int
    reached: dict[tuple[int, str], Reached] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    #: Relations by oid that appear in `reached`, for rows and sizes.
    known: dict[int, Known] = field(default_factory=dict)
    result: Consequences = field(default_factory=lambda: Consequences(source=_SOURCE))
    path: list[str] = field(default_factory=list)
    named: dict[Target, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)

    def consequences(self) -> Consequences:
        """What is known until now."""
        listed = sorted(self.reached.values(), key=_order)
        more = len(listed) - KEPT
        notes = [*self.notes, *([f"{more:,} more objects are not listed"] if more > 0 else [])]
        problem = "; ".join(dict.fromkeys(self.problems))
        return replace(self.result, reached=tuple(listed[:KEPT]), notes=tuple(dict.fromkeys(notes)), problem=problem)

    async def objects(self) -> None:
        """What is reached, with the catalog's estimates; locks, triggers, publications."""
        steps = (self._names, self._reach, self._around, self._size)
        for step in steps:
            try:
                await step()
            except psycopg.Error as error:
                self.problems.append(first_line(error))
                if self.link.closed:
                    return

    async def counts(self) -> None:
        """Exact rows, and what DELETE, UPDATE and MERGE match."""
        for step in (self._match, self._count):
            try:
                await step()
            except psycopg.Error as error:
                self.problems.append(first_line(error))
                if self.link.closed:
                    return

    # --- names --------------------------------------------------------------------------------------------------

    async def _names(self) -> None:
        self.classes = dict(await catalog.classes(self.link))
        self.result = replace(self.result, of_relations=await catalog.table_count(self.link))
        requester = self.hold.request.requester
        self.path = await catalog.search_path(self.link, requester.role)
        sight = self.hold.sight or Sight(unbound="the session was not asked")
        await self._adopt_path(sight)
        seen = {o.asked: o for o in sight.objects if o.kind != "schema"}
        temporary = [o.now for o in sight.objects if o.temporary]
        if temporary:
            self.notes.append(f"{', '.join(temporary)}: temporary, only the session itself sees what is in it")
        wanted = [t for t in self.targets if t.kind == "relation"]
        found = await catalog.resolve(self.link, [(t.schema, t.name) for t in wanted], self.path)
        there = await catalog.relations(self.link, [o.oid for o in seen.values()])
        for target, oid in zip(wanted, found, strict=True):
            own = seen.get(target.written)
            if own is not None and not own.temporary and own.oid not in there:
                self.notes.append(f"{own.now} was made in the session's own open transaction, which nobody else can see")
            elif own is not None and not own.temporary:
                self.named[target] = own.oid
            elif own is None and oid is not None and (sight.unbound or target.written not in sight.missing):
                self.named[target] = oid
            elif own is None:
                self.notes.append(f"{target.written} was not found")
        if sight.unbound and any(not t.schema for t in wanted):
            self.notes.append(f"names without a schema are read as {', '.join(self.path) or 'nobody'}, the role's default search_path")

    async def _adopt_path(self, sight: Sight) -> None:
        """The session may have set another search_path. Then the schemas of what it sees come first."""
        asked = [o for o in sight.objects if o.kind != "schema" and not o.temporary]
        plain = [o for o in asked if "." not in o.asked.replace('"', "")]
        if not plain:
            return
        names = [("", o.asked[1:-1].replace('""', '"') if o.asked[:1] == '"' else o.asked) for o in plain]
        if await catalog.resolve(self.link, names, self.path) == [o.oid for o in plain]:
            return
        cursor = await self.link.execute(
            "SELECT n.nspname::text FROM unnest(%s::oid[]) WITH ORDINALITY o(oid, i) JOIN pg_class c ON c.oid = o.oid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY o.i",
            ([o.oid for o in plain],),
        )
        self.path = list(dict.fromkeys([*(str(row[0]) for row in await cursor.fetchall()), *self.path]))
        self.notes.append("the session has a search_path of its own")

    # --- objects ------------------------------------------------------------------------------------------------

    async def _reach(self) -> None:
        if (act := self.hold.request.act) is not None and (seen := tables_of(self.hold.sight)):
            known = await self._know([o.oid for o in seen])
            for one in sorted(known.values(), key=lambda k: k.name):
                self._add(one, act.title, "dropped")
        for target in self.targets:
            if target.kind == "relation":
                if (oid := self.named.get(target)) is not None:
                    await self._reach_relation(target, oid)
            elif target.kind == "database":
                await self._reach_database(target)
            else:
                await self._reach_other(target)
        await self._reach_code()
        if self.facts is not None:
            self.notes += not_followed(self.facts)

    async def _reach_relation(self, target: Target, oid: int) -> None:
        known = await self._know([oid])
        if oid not in known:
            return
        name = known[oid].name
        self._add(known[oid], "named", target.fate)
        match target.event:
            case "DROP":
                await self._dependants([(self.classes["pg_class"], oid, 0)], target)
            case "DROP COLUMN":
                number = await catalog.column_number(self.link, oid, target.column)
                if number is None:
                    self.notes.append(f"{name} has no column {quoted(target.column)}")
                    return
                below = await self._below([oid], target.fate)
                starts = [(self.classes["pg_class"], oid, number)]
                for child in below:
                    if (n := await catalog.column_number(self.link, child, target.column)) is not None:
                        starts.append((self.classes["pg_class"], child, n))
                await self._dependants(starts, target)
            case "TRUNCATE":
                emptied = {oid, *await self._below([oid], target.fate)}
                if target.cascade:
                    await self._truncated(emptied, target.fate)
                elif others := [k for k in await catalog.foreign_keys(self.link, emptied) if k.of not in emptied]:
                    names = await self._know([k.of for k in others])
                    told = ", ".join(sorted({names[k.of].name for k in others if k.of in names})[:5])
                    if not any(t.event == "TRUNCATE" and self.named.get(t) in {k.of for k in others} for t in self.targets):
                        self.notes.append(f"without CASCADE the server refuses it: {told} has a foreign key to it")
            case "DELETE" | "UPDATE":
                changed = {oid, *await self._below([oid], target.fate)}
                await self._by_keys(changed, target.event)
            case _:
                await self._below([oid], target.fate)

    async def _below(self, oids: Collection[int], fate: str) -> list[int]:
        """Partitions and children; an ONLY is not asked about, so there may be more here than the statement reaches."""
        pairs = await catalog.children(self.link, oids)
        known = await self._know([i for pair in pairs for i in pair])
        for parent, child in pairs:
            if child in known and parent in known:
                why = f"partition of {known[parent].name}" if known[child].partition else f"child of {known[parent].name}"
                self._add(known[child], why, fate)
        return [child for _, child in pairs]

    async def _truncated(self, emptied: set[int], fate: str) -> None:
        """TRUNCATE … CASCADE empties whatever refers to these, and what refers to that."""
        fresh = set(emptied)
        while fresh:
            keys = [k for k in await catalog.foreign_keys(self.link, fresh) if k.of not in emptied]
            known = await self._know([i for k in keys for i in (k.of, k.to)])
            for key in keys:
                if key.of in known and key.to in known:
                    self._add(known[key.of], f"CASCADE from {known[key.to].name} by foreign key {key.name}", fate)
            fresh = {k.of for k in keys}
            fresh |= set(await self._below(fresh, fate)) - emptied
            emptied |= fresh

    async def _by_keys(self, changed: set[int], event: str) -> None:
        """What foreign keys do to other tables (ddl-constraints.html#DDL-CONSTRAINTS-FK)."""
        fresh = set(changed)
        seen = set(changed)
        refusing: set[str] = set()
        while fresh:
            keys = await catalog.foreign_keys(self.link, fresh)
            known = await self._know([i for k in keys for i in (k.of, k.to)])
            fresh = set()
            for key in keys:
                if key.of not in known or key.to not in known:
                    continue
                action = key.on_delete if event == "DELETE" else key.on_update
                words = _ACTIONS.get(action)
                if words is None:
                    if event == "DELETE" and key.of not in changed:
                        refusing.add(known[key.of].name)
                    continue
                if event == "DELETE":
                    why = f"foreign key {key.name} ON DELETE {words} to {known[key.to].name}"
                    self._add(known[key.of], why, "rows deleted" if action == "c" else "rows changed")
                else:
                    why = f"foreign key {key.name} ON UPDATE {words} to {known[key.to].name}, if its key changes"
                    self._add(known[key.of], why, "rows changed")
                if action == "c" and key.of not in seen:
                    fresh.add(key.of)
                    seen.add(key.of)
        if refusing:
            self.notes.append(f"the server refuses it where rows of {', '.join(sorted(refusing)[:5])} refer to what is deleted")

    async def _reach_other(self, target: Target) -> None:
        found = await catalog.named_otherwise(self.link, target.kind, target.schema, target.name, self.path)
        if not found:
            self.notes.append(f"{target.kind} {target.written} was not found")
        for catalog_name, oid, name in found:
            self._put(Reached(name, target.kind, "named", target.fate))
            await self._dependants([(self.classes[catalog_name], oid, 0)], target)

    async def _reach_database(self, target: Target) -> None:
        size = await catalog.database_size(self.link, target.name)
        if size is None:
            self.notes.append(f"database {target.written} was not found")
            return
        self._put(Reached(quoted(target.name), "database", "named", target.fate, bytes=size))

    async def everything(self, target: Target) -> None:
        """On a connection to the database that is dropped: all its tables."""
        known = await self._know(await catalog.all_tables(self.link))
        self.result = replace(self.result, of_relations=sum(k.kind in catalog.TABLES for k in known.values()))
        for one in sorted(known.values(), key=lambda k: -k.bytes):
            self._add(one, f"in database {quoted(target.name)}", target.fate)

    async def _reach_code(self) -> None:
        """Relations of code that the statement runs: what becomes of them is not known, but that they are named."""
        sight = self.hold.sight
        findings = {name for f in self.hold.request.findings for name in f.relations}
        mine = set(self.named.values())
        others = [
            o for o in (sight.objects if sight is not None else ()) if o.asked in findings and o.oid not in mine and o.kind != "schema"
        ]
        known = await self._know([o.oid for o in others])
        for o in others:
            if o.oid in known and not any(r.name == known[o.oid].name for r in self.reached.values()):
                self._add(known[o.oid], "named in what runs", "changed by what runs")

    async def _dependants(self, starts: Sequence[Address], target: Target) -> None:
        """Follow pg_depend from what is dropped."""
        # Without CASCADE only what belongs to it goes as well; 'n' would make the server refuse.
        deptypes = "naiPSex" if target.cascade or target.kind == "extension" else "aiPSe"
        seen: set[Address] = set(starts)
        level = list(starts)
        labels: dict[Address, str] = {}
        refusing: list[str] = []
        for _ in range(_LEVELS):
            if not level or len(seen) > _FOLLOWED:
                break
            found = await catalog.dependants(self.link, level, deptypes, _FOLLOWED)
            known = await self._know([d.relation for d in found if d.relation])
            level = []
            for one in found:
                address = one.address
                if address in seen or (address[0], address[1], 0) in seen:
                    continue
                seen.add(address)
                parent = labels.get(one.parent) or await self._label(one.parent, target)
                rule_of_view = one.type == "rule" and one.relation in known and known[one.relation].kind in ("view", "materialized view")
                if rule_of_view:
                    address = (self.classes["pg_class"], one.relation, 0)
                    if address in seen:
                        continue
                    seen.add(address)
                labels[address] = known[one.relation].name if one.relation in known and (rule_of_view or one.is_relation) else one.identity
                level.append(address)
                self._depends(one, address, known, parent, seen)
        if len(seen) > _FOLLOWED:
            self.notes.append(f"more than {_FOLLOWED:,} objects depend on it: not all were followed")
        if not target.cascade and target.event in ("DROP", "DROP COLUMN") and target.kind != "extension":
            refusing = await self._refusing(seen)
            if refusing:
                self.notes.append(
                    f"without CASCADE the server refuses it: {some(refusing, 5)} depend{'s' if len(refusing) == 1 else ''} on it"
                )

    def _depends(self, one: catalog.Dependant, address: Address, known: dict[int, Known], parent: str, seen: set[Address]) -> None:
        table = known.get(one.relation)
        why = f"CASCADE from {parent}" if one.deptype in "nx" else f"belongs to {parent}"
        if one.parent[0] == self.classes["pg_namespace"]:
            why = f"in {parent}"
        if table is not None and address[0] == self.classes["pg_class"] and address[2] == 0:
            if table.partition and one.deptype != "n":
                why = f"partition of {parent}"
            if table.kind in ("index", "partitioned index", "TOAST table", "composite type"):
                return
            self._add(table, why, "dropped")
        elif table is not None:
            if (self.classes["pg_class"], table.oid, 0) in seen:
                return  # it goes with its table
            if one.deptype in "ai" and one.contype not in ("f", "p", "u") and one.type != "table column":
                return  # what belongs to a column or a constraint that is told already
            self._add(table, why, f"loses {_part(one, table)}")
        elif one.type in _SHOWN and one.deptype != "i":  # the array of a type goes with it
            self._put(Reached(one.identity, _SHOWN[one.type], why, "dropped"))

    async def _label(self, address: Address, target: Target) -> str:
        if address[0] == self.classes["pg_class"] and address[1] in self.known:
            name = self.known[address[1]].name
            return f"{name}.{quoted(target.column)}" if target.column and address[2] else name
        return f"{target.kind} {target.written}"

    async def _refusing(self, seen: set[Address]) -> list[str]:
        """What depends on the dropped ones, and is not dropped with them or by the same script."""
        dropped = {(self.classes["pg_class"], oid, 0) for t, oid in self.named.items() if t.event == "DROP"}
        found = await catalog.dependants(self.link, list(seen), "n", 200)
        # An FK of a table that is dropped as well, a rule of a view that is dropped as well.
        gone = {a[1] for a in (*seen, *dropped) if a[0] == self.classes["pg_class"] and a[2] == 0}
        return list(dict.fromkeys(d.identity for d in found if d.address not in seen and d.relation not in gone))

    # --- around -------------------------------------------------------------------------------------------------

    async def _around(self) -> None:
        fired: list[str] = []
        rewritten: list[str] = []
        published: list[str] = []
        by_event: dict[str, set[int]] = {}
        names = {r.name: r for r in self.reached.values()}
        for target, oid in self.named.items():
            by_event.setdefault(target.event, set()).add(oid)
        for known in self.known.values():
            # Those that are reached by a key or a parent have triggers and publications of their own.
            if (found := names.get(known.name)) is not None and (event := _EVENTS.get(found.fate)) is not None:
                by_event.setdefault(event, set()).add(known.oid)
        for event, oids in by_event.items():
            fired += await catalog.triggers(self.link, oids, event)
            rewritten += await catalog.rules(self.link, {o for t, o in self.named.items() if t.event == event}, event)
            published += await catalog.publications(self.link, oids, event)
        if any(t.event in _DDL for t in self.targets):
            events = ["ddl_command_start", "ddl_command_end"]
            events += ["sql_drop"] if any(t.event.startswith("DROP") for t in self.targets) else []
            events += ["table_rewrite"] if self.facts is not None and self.facts.rewrites else []
            fired += [f"event trigger {name}" for name in await catalog.event_triggers(self.link, events)]
        self.result = replace(
            self.result,
            triggers=tuple(dict.fromkeys(fired)),
            rules=tuple(dict.fromkeys(rewritten)),
            publications=tuple(dict.fromkeys(published)),
            replicas=tuple(await catalog.replicas(self.link)),
            locks=tuple(dict.fromkeys(await self._locks())),
            rewrites=tuple(dict.fromkeys(self._name(table) for table, _ in (self.facts.rewrites if self.facts is not None else ()))),
        )

    def _name(self, relation: Relation) -> str:
        for target, oid in self.named.items():
            if (target.schema, target.name) == (relation.schema, relation.name) and oid in self.known:
                return self.known[oid].name
        return str(relation)

    async def _locks(self) -> list[str]:
        locks = [f"{lock.mode} on {self._name(lock.relation)}" for lock in (self.facts.locks if self.facts is not None else ())]
        strong = {target for target in self.named if target.event in ("DELETE", "UPDATE", "INSERT")}
        locks += [f"ROW EXCLUSIVE on {self.known[self.named[t]].name}" for t in strong if self.named[t] in self.known]
        dropped = {k.oid for k in self.known.values() if any(r.name == k.name and r.fate == "dropped" for r in self.reached.values())}
        if dropped:
            # Dropping a foreign key drops its triggers on both sides.
            ends = await catalog.referenced(self.link, dropped) - dropped
            locks += [f"ACCESS EXCLUSIVE on {known.name}" for known in (await catalog.relations(self.link, ends)).values()]
        for one in self.reached.values():
            if one.kind in catalog.TABLES and (one.fate in ("dropped", "emptied") or one.fate.startswith("loses")):
                locks.append(f"ACCESS EXCLUSIVE on {one.name}")
        return locks[:KEPT]

    async def _size(self) -> None:
        shown = {r.name for r in self.reached.values()}
        oids = [k.oid for k in self.known.values() if k.name in shown and k.kind not in ("view", "foreign table", "sequence")]
        if not oids:
            return
        sizes = await catalog.sizes(self.link, oids)
        names = {k.name: sizes[k.oid] for k in self.known.values() if k.oid in sizes}
        self.reached = {key: replace(r, bytes=names.get(r.name, r.bytes)) for key, r in self.reached.items()}

    # --- rows ---------------------------------------------------------------------------------------------------

    async def _match(self) -> None:
        found: list[Matching] = []
        for preview in self.previews:
            if preview.problem:
                found.append(Matching(str(preview.relation), problem=preview.problem))
                continue
            target = next(
                (t for t in self.named if t.statement == preview.statement and (t.schema, t.name) == _pair(preview.relation)), None
            )
            if target is None or self.named[target] not in self.known:
                found.append(Matching(str(preview.relation), problem="only the session itself can see it"))
                continue
            found.append(await self._matching(preview, self.known[self.named[target]]))
        self.result = replace(self.result, matching=tuple(found))

    async def _matching(self, preview: Preview, known: Known) -> Matching:
        try:
            await rows.refuse_volatile(self.link, preview, known.oid, self.path)
            columns = await rows.columns_of(self.link, known.oid)
            async with rows.reading(self.link, self.path, self.timeout_s):
                values = await rows.values_of(self.link, preview, known.name, self.hold.request.parameters)
                found = await rows.match(self.link, preview, known, values, exact_rows=self.exact_rows, columns=columns)
            if preview.can_insert:
                self.notes.append(f"it may insert rows into {known.name} as well, which nobody can count before")
            if found.rows is not None:
                self._rows(known.name, found.rows, found.exact)
            if found.exact and preview.verb == "DELETE":
                await self._matching_below(preview, known, values)
        except rows.NotAskedError as why:
            return Matching(known.name, problem=str(why))
        except psycopg.Error as error:
            if self.link.closed:
                raise
            return Matching(known.name, problem=first_line(error))
        return found

    async def _matching_below(self, preview: Preview, known: Known, values: dict[int, str | None]) -> None:
        """Count the rows that ON DELETE takes or changes in other tables."""
        level: list[tuple[int, str | None, str]] = [(known.oid, None, "")]
        seen = {known.oid}
        for _ in range(_KEYS_DEEP):
            below: list[tuple[int, str | None, str]] = []
            for oid, condition, name in level:
                for key in await catalog.foreign_keys(self.link, [oid]):
                    if key.of in seen or key.of not in self.known or key.on_delete not in "cnd":
                        continue
                    table = self.known[key.of]
                    if table.rows is not None and table.rows > self.exact_rows:
                        continue
                    try:
                        if condition is None:
                            own = quoted(preview.alias or preview.relation.name)
                            source = preview.select(", ".join(f"{own}.{k}" for k in key.keys), relation=known.name, values=values)
                        else:
                            source = f"SELECT {', '.join(key.keys)} FROM {name} WHERE {condition}"
                    except PreviewError:
                        continue
                    within = f"({', '.join(key.columns)}) IN ({source})"
                    counted = await self._counted(f"SELECT pg_catalog.count(*) FROM {table.name} WHERE {within}")
                    if counted is not None:
                        self._rows(table.name, counted)
                        seen.add(key.of)
                        if key.on_delete == "c":
                            below.append((key.of, within, table.name))
            level = below

    async def _counted(self, query: str) -> int | None:
        try:
            async with rows.reading(self.link, self.path, self.timeout_s):
                row = await (await self.link.execute(query.encode())).fetchone()
        except psycopg.Error:
            if self.link.closed:
                raise
            return None
        return int(row[0]) if row is not None else None

    async def _count(self) -> None:
        """Tables that go as a whole, smallest first, as long as there is time for it."""
        whole = {
            r.name for r in self.reached.values() if r.fate in ("dropped", "emptied", "rewritten") or r.fate.startswith("loses column")
        }
        wanted = [k for k in self.known.values() if k.name in whole and k.kind in catalog.FILLED]
        wanted = [k for k in wanted if (k.rows is None and k.bytes < 64 << 20) or (k.rows is not None and k.rows <= self.exact_rows)]
        loop = asyncio.get_running_loop()
        until = loop.time() + self.timeout_s
        for known in sorted(wanted, key=lambda k: k.rows or 0)[:_COUNTED]:
            left_s = until - loop.time()
            if left_s <= 0:
                break
            try:
                async with rows.reading(self.link, self.path, left_s):
                    counted = await rows.count(self.link, known.name, only=True)
            except psycopg.errors.InsufficientPrivilege:
                self.problems.append(f"pghold may not read {known.name}; pghold doctor says which grants it needs")
            except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
                continue  # estimated, then
            else:
                self._rows(known.name, counted)

    # --- what is known ------------------------------------------------------------------------------------------

    async def _know(self, oids: Iterable[int]) -> dict[int, Known]:
        wanted = {o for o in oids if o}
        missing = wanted - self.known.keys()
        if missing:
            self.known.update(await catalog.relations(self.link, missing))
        return {o: self.known[o] for o in wanted if o in self.known}

    def _add(self, known: Known, why: str, fate: str) -> None:
        # Of those that lose some rows only a count says how many.
        has_rows = known.kind in (*catalog.FILLED, "foreign table") and not fate.startswith("rows ")
        self._put(Reached(known.name, known.kind, why, fate, known.rows if has_rows else None, False, known.bytes))

    def _put(self, reached: Reached) -> None:
        """The first way in which a relation is reached stays; one that loses several parts is listed for each."""
        worst = self.reached.get((0, reached.name))
        if worst is not None and (worst.fate == "dropped" or worst.fate == reached.fate):
            return
        if reached.fate.startswith("loses"):
            self.reached.setdefault((1, f"{reached.name} {reached.fate}"), reached)
        elif worst is None or _badness(reached.fate) > _badness(worst.fate):
            self.reached[(0, reached.name)] = reached

    def _rows(self, name: str, counted: int, exact: bool = True) -> None:
        self.reached = {k: replace(r, rows=counted, exact=exact) if r.name == name else r for k, r in self.reached.items()}


def _part(one: catalog.Dependant, table: Known) -> str:
    """What the table loses."""
    if one.type == "table column":
        return f"column {one.identity.removeprefix(table.name + '.')}"
    if one.type == "default value":
        return f"the default of column {one.identity.removeprefix('for ').removeprefix(table.name + '.')}"
    return f"{_PARTS.get(one.type, one.type)} {one.identity.removesuffix(f' on {table.name}')}"


def _order(reached: Reached) -> tuple[bool, int, int, int]:
    """What is named first, then tables before what can be made anew, the largest first."""
    kinds = ("database", "schema", "table", "partitioned table", "materialized view", "view")
    kind = kinds.index(reached.kind) if reached.kind in kinds else len(kinds)
    return reached.why != "named", min(kind, 2) if kind < 4 else kind, -(reached.rows or 0), -reached.bytes


def some(names: Sequence[str], limit: int) -> str:
    """The first few."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def _pair(relation: Relation) -> tuple[str, str]:
    return relation.schema, relation.name


def _badness(fate: str) -> int:
    order = ("altered", "rewritten", "rows changed", "rows changed or added", "rows deleted", "emptied", "dropped")
    return order.index(fate) if fate in order else 0


#: Of a foreign key, by confdeltype and confupdtype.
_ACTIONS: Final = {"c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
#: The event of a relation that has this fate.
_EVENTS: Final = {
    "rows deleted": "DELETE",
    "rows changed": "UPDATE",
    "rows changed or added": "UPDATE",
    "emptied": "TRUNCATE",
    "dropped": "DROP",
}
#: What pg_identify_object calls parts of a table.
_PARTS: Final = {
    "table constraint": "constraint",
    "publication relation": "publication",
}
#: Objects of their own that are worth telling.
_SHOWN: Final = {
    "function": "function",
    "procedure": "procedure",
    "aggregate": "aggregate",
    "type": "type",
    "domain": "domain",
    "schema": "schema",
    "extension": "extension",
    "operator": "operator",
    "foreign-data wrapper": "foreign-data wrapper",
    "server": "foreign server",
    "text search configuration": "text search configuration",
}
