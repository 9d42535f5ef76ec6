"""Holds that are one decision: those of one session, of one client doing the same thing, and equal statements."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from policy.verdict import Severity
from proxy.model import Hold


@dataclass(frozen=True, slots=True)
class Group:
    """Holds that belong together, oldest first. `why` is for people; empty for one alone."""

    holds: tuple[Hold, ...]
    why: str = ""

    @property
    def first(self) -> Hold:
        return self.holds[0]

    @property
    def ids(self) -> str:
        return ",".join(str(h.id) for h in self.holds)

    @property
    def severity(self) -> str:
        return max((h.request.severity for h in self.holds), key=lambda s: Severity[s.upper()])

    @property
    def expires_first(self) -> Hold:
        return min(self.holds, key=lambda h: h.expires_at)

    @property
    def rule_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(rule_id for h in self.holds for rule_id in h.request.rule_ids))

    @property
    def bytes(self) -> int:
        """Of all objects that were seen, each once; the catalog's estimate."""
        seen = {(h.request.requester.database, o.oid): o.bytes for h in self.holds if h.sight is not None for o in h.sight.objects}
        return sum(seen.values())

    @property
    def waiting(self) -> int:
        """Sessions that wait behind these."""
        return len({w.pid for h in self.holds if h.sight is not None for w in h.sight.waiting})

    @property
    def relations(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(relation for h in self.holds for relation in h.request.relations))


def _session(hold: Hold) -> Hashable:
    who = hold.request.requester
    if hold.request.protocol == "errand":
        return ("errand", hold.id)  # of no session
    return ("session", who.session_id, who.role, who.database)


def _client(hold: Hold) -> Hashable:
    """The same program on the same machine, against the same rules."""
    request, who = hold.request, hold.request.requester
    if request.protocol == "errand":
        return ("errand", hold.id)
    host = who.client_addr.rpartition(":")[0] or who.client_addr
    return ("client", who.role, who.database, who.application_name, host, request.rule_ids, tuple(s.kind for s in request.statements))


def _text(hold: Hold) -> Hashable:
    request = hold.request
    return ("text", request.script, request.parameters, request.requester.database)


def group(holds: Iterable[Hold]) -> list[Group]:
    """Union of what shares a session, a client's act, or a text; groups by their oldest hold."""
    ordered = sorted(holds, key=lambda h: h.id)
    leader = list(range(len(ordered)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    seen: dict[Hashable, int] = {}
    for index, hold in enumerate(ordered):
        for key in (_session(hold), _client(hold), _text(hold)):
            first = seen.setdefault(key, index)
            a, b = find(first), find(index)
            leader[max(a, b)] = min(a, b)
    members: dict[int, list[Hold]] = {}
    for index, hold in enumerate(ordered):
        members.setdefault(find(index), []).append(hold)
    return [Group(tuple(found), _why(found)) for found in members.values()]


def _why(holds: Sequence[Hold]) -> str:
    if len(holds) == 1:
        return ""
    if len({_text(h) for h in holds}) == 1:
        return "the same statement"
    if len({_session(h) for h in holds}) == 1:
        return f"session {holds[0].request.requester.session_id}"
    who = holds[0].request.requester
    return who.application_name or f"{who.role} from {who.client_addr.rpartition(':')[0] or who.client_addr}"
