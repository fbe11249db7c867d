"""Structured garbage for every route: requests with the right shape and wrong values, and worse.

``requests(ground)`` draws one request for any row of the route table: any version, credential,
override and parameter, a body made after the members of the resource in question, ids that exist
as well as ids that do not. ``Ground`` is the platform that they are thrown at.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from flowkit.protocol.envelope import Request
from flowkit.protocol.resources import BY_ROUTE, RESOURCES, Member
from flowkit.server.routes import ROUTES, Route
from tests.server.visitor import Visitor

SCRIPTS = ("function (d) { return d; }", "function (", "while (true) {}", "1")
WORDS = (
    "",
    "a",
    "temp",
    "elems.temp",
    "path",
    "id",
    "creationDate",
    "é",
    "\x00",
    "\ud800",
    "😀" * 9,
)
NUMBERS = (0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 1.5, 1e308, -0.0)
FILTERS = (
    "",
    "temp > 1",
    "EXISTS temp &&",
    "temp =~ /(a+)+$/",
    "l WITHIN 5 KM OF [1,2]",
    "l WITHIN 5 KM OF [ZIP=99999]",
    "AGE < 5",
    "(" * 200 + "a" + ")" * 200,
    "a == 'x' || " * 40 + "b == 1",
    "a IN [1, 'x', true]",
    "'\ud800' == a",
)
PATHS = (
    "/nora/a",
    "/nora/a/b",
    "/nora",
    "/bob/a",
    "//Nora//A/",
    "/nora/:inbox",
    "/nora/" + "x" * 200,
)
PARAMS = (
    "filter limit start skip sort order only refs hints path positions explain forget pretty "
    "level window nothing"
).split()


class Ground:
    """A platform under fire.

    No dataclass: hypothesis would print its fields now and then, while another thread changes them.

    Attributes:
        nora, bob: the accounts that the requests come from.
        keeper: an account that they know nothing of; what it wrote must stay.
        ids: ids that exist or existed, by prefix; what this round draws from.
        learned: the same, for the next round.
        rounds: how many there were.
        kept: drops of the keeper that were acknowledged, by id.
    """

    def __init__(self, nora: Visitor, bob: Visitor, keeper: Visitor) -> None:
        self.nora, self.bob, self.keeper = nora, bob, keeper
        self.ids: dict[str, list[str]] = {}
        self.learned: dict[str, list[str]] = {}
        self.rounds = 0
        self.kept: dict[str, Any] = {}
        self.flow: dict[str, Any] = {}

    def learn(self, body: Any) -> None:
        """Keep the ids of an answer for the next round, a few of each kind.

        Not for this one: what hypothesis draws from must not change while it draws.
        """
        found = body if isinstance(body, list) else [body]
        for doc in found[:3]:
            if isinstance(doc, dict) and isinstance(doc.get("id"), str):
                known = self.learned.setdefault(doc["id"][0], [])
                known.append(doc["id"])
                del known[:-8]

    def next_round(self) -> None:
        """Make something to meet that is surely there, and take on what was learned."""
        self.rounds += 1
        for who in (self.nora, self.bob):
            flow = who.flow(f"/{who.account}/round/{self.rounds}", description="x", public=True)
            self.learn(flow)
            self.learn(who.drop(flow, temp=1))
        self.ids = {prefix: list(known) for prefix, known in self.learned.items()}

    def some_id(self, prefix: str) -> st.SearchStrategy[str]:
        """An id of that kind, one that is or was there if possible."""
        odd = [prefix + "0" * 24, "x", "", "\ud800", "../..", "é", prefix + "f" * 25, "simulate"]
        return st.sampled_from([*self.ids.get(prefix, ())] * 4 + odd)


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value, with the numbers and texts that break things."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(NUMBERS),
        st.sampled_from(WORDS),
        st.text(max_size=6),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=4),
        ),
        max_leaves=8,
    )


def typed_values() -> st.SearchStrategy[Any]:
    """Element values, typed rightly and wrongly."""
    names = "string integer long float date email uri html id dropRef location list set map nope"
    typed = st.builds(
        lambda kind, value: {"type": kind, "value": value},
        st.sampled_from(names.split()),
        json_values(),
    )
    return st.one_of(typed, json_values())


def member_values(member: Member, ground: Ground) -> st.SearchStrategy[Any]:
    """A value for *member*: often of the right kind, sometimes not."""
    grants = st.dictionaries(
        st.sampled_from(PATHS),
        st.dictionaries(
            st.sampled_from(["read", "write", "dropRead", "dropWrite", "administer", "x"]),
            st.sampled_from([True, False, 1, None]),
            max_size=3,
        ),
        max_size=2,
    )
    ids = st.one_of(*(ground.some_id(prefix) for prefix in "fitkg"))
    fitting: dict[str, st.SearchStrategy[Any]] = {
        "path": st.sampled_from(PATHS),
        "filter": st.sampled_from(FILTERS),
        "integer": st.sampled_from([*NUMBERS, 60_000, 1000]),
        "boolean": st.booleans(),
        "elems": st.dictionaries(st.sampled_from(WORDS), typed_values(), max_size=3),
        "grants": grants,
        "id": ids,
        "ids": st.lists(ids, max_size=3),
        "destinations": st.sampled_from(PATHS) | st.lists(st.sampled_from(PATHS), max_size=3),
        "location": st.fixed_dictionaries(
            {"lat": st.sampled_from(NUMBERS), "lon": st.sampled_from([0, 181, "x"])}
        ),
        "object": st.dictionaries(st.sampled_from(WORDS), json_values(), max_size=2),
        "string": st.sampled_from(
            [*WORDS, *SCRIPTS, "http://127.0.0.1:9/", "tcp://127.0.0.1:9", "file:///x", "x" * 3000]
        ),
    }
    right = fitting.get(member.kind, json_values())
    return st.one_of(right, right, right, json_values())


def documents(name: str, ground: Ground) -> st.SearchStrategy[Any]:
    """A body for a resource: some of its members, required ones mostly, and unknown ones."""
    members = RESOURCES[name].members.values()
    required = {
        each.name: member_values(each, ground)
        for each in members
        if each.required and not each.read_only
    }
    others = {
        each.name: member_values(each, ground) for each in members if each.name not in required
    }
    others["unknown"] = json_values()
    return st.fixed_dictionaries(required, optional=others)


def _raw_bodies() -> st.SearchStrategy[bytes]:
    """Bodies that are no JSON, or JSON that is too much."""
    return st.sampled_from(
        [
            b"",
            b"{",
            b"[" * 5_000,
            b'{"elems":' * 150 + b"1" + b"}" * 150,
            b"\xff\xfe",
            b"NaN",
            b'{"elems": {"a": 1e400}}',
            b'{"elems": {"a": "\\ud800"}}',
            b"{} {}",
            b" " * 1000,
            b"[" + b"{}," * 300 + b"{}]",
        ]
    )


def bodies(route: Route, ground: Ground) -> st.SearchStrategy[Any]:
    """A body for *route*: bytes, or a value that goes as JSON."""
    name = route.pattern.split("/")[0]
    resource = BY_ROUTE[name].name if name in BY_ROUTE else "drop"
    doc = documents(resource, ground)
    prefix = RESOURCES[resource].prefix
    ids = ground.some_id(prefix)
    shaped: dict[str, st.SearchStrategy[Any]] = {
        "MPUT": st.dictionaries(ids, doc, max_size=3),
        "MGET": st.lists(ids, max_size=4),
        "POST": doc,
        "PUT": doc,
    }
    if route.pattern == "drop" and route.method == "MGET":
        shaped["MGET"] = st.lists(
            st.fixed_dictionaries(
                {"flowId": ground.some_id("f")}, optional={"params": params(route)}
            ),
            max_size=3,
        )
    if route.array:
        shaped["POST"] = doc | st.lists(st.one_of(doc, json_values()), max_size=4)
    if route.pattern == "batch":
        entry = st.fixed_dictionaries(
            {
                "method": st.sampled_from(["GET", "MGET", "POST", 1]),
                "path": st.sampled_from(
                    ["/flow", "/drop", "/batch", "/identity", "/", "", "/x?y", 5]
                ),
            },
            optional={
                "params": st.dictionaries(st.sampled_from(PARAMS), json_values(), max_size=2)
            },
        )
        shaped["POST"] = st.lists(entry, max_size=3)
    if route.pattern.endswith("aggregate"):
        selectors = [
            "$count",
            "$avg:temp",
            "$sum:",
            "$max:temp",
            "$day",
            "$nope",
            "distance:r",
            "",
            5,
        ]
        words = st.lists(st.sampled_from(selectors), max_size=3)
        rules = st.dictionaries(
            st.sampled_from(["r", ""]), st.sampled_from([*FILTERS, 1]), max_size=2
        )
        shaped["POST"] = st.fixed_dictionaries(
            {"output": words},
            optional={
                "groupBy": words,
                "sorts": words,
                "rules": rules,
                "filter": st.sampled_from(FILTERS),
            },
        )
    if route.pattern.endswith(("simulate", "backtest")):
        script = st.sampled_from(SCRIPTS) | json_values()
        shaped["POST"] = st.fixed_dictionaries(
            {"js": script},
            optional={
                "drop": documents("drop", ground) | json_values(),
                "source": st.sampled_from(PATHS),
                "destination": st.sampled_from(PATHS),
                "filter": st.sampled_from(FILTERS),
                "track": documents("track", ground),
                "limit": json_values(),
            },
        )
    usual = shaped.get(route.method, st.just(b""))
    return st.one_of(usual, usual, usual, usual, json_values(), _raw_bodies())


def params(route: Route) -> st.SearchStrategy[dict[str, Any]]:
    """Query parameters: those of the route and others, with values that fit or do not."""
    values = st.one_of(
        st.sampled_from(
            ["0", "1", "true", "False", "5", "-1", "1e9", "asc", "geo", "", "HOUR", "x"]
        ),
        st.sampled_from(FILTERS),
        st.sampled_from(PATHS),
        st.sampled_from(WORDS),
    )
    names = sorted(route.known) * 2 + PARAMS
    return st.dictionaries(st.sampled_from(names), values, max_size=4)


@st.composite
def requests(draw: st.DrawFn, ground: Ground, routes: tuple[Route, ...] = tuple(ROUTES)) -> Request:
    """One request at any of *routes*."""
    route = draw(st.sampled_from(routes))
    segments = [_segment(draw, part, route, ground) for part in route.pattern.split("/")]
    body = draw(bodies(route, ground))
    who = draw(st.sampled_from([ground.nora, ground.nora, ground.nora, ground.bob]))
    secret = draw(
        st.sampled_from([who.token, who.token, who.token, who.token, "", "é" * 9, "0" * 32, None])
    )
    headers = {} if secret is None else {"x-auth-token": secret}
    headers |= draw(
        st.dictionaries(
            st.sampled_from(
                ["x-request-id", "x-auth-account", "x-http-method-override", "accept", "x-odd"]
            ),
            st.sampled_from(["", "a", "nora", "bob", "MGET", "GET", "\x01", "é", "x" * 300]),
            max_size=1,
        )
    )
    method = route.method
    if method in ("GET", "MGET", "MPUT") and draw(st.booleans()):
        headers["x-http-method-override"] = method
        if method == "GET":
            body = draw(params(route))
        method = "POST"
    account = draw(st.sampled_from([who.account] * 6 + ["nora", "nobody", "\ud800", ""]))
    version = draw(st.sampled_from(["v4.0", "v4.0", "v0.1", "v0.1", "v9.9", "v", "v99999.1"]))
    data = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8", "surrogatepass")
    return Request(method, (version, account, *segments), draw(params(route)), headers, data)


def _segment(draw: st.DrawFn, part: str, route: Route, ground: Ground) -> str:
    """What stands at a place of the pattern."""
    if part[0] != "{":
        return part
    first = route.pattern.split("/")[0]
    prefix = BY_ROUTE[first].prefix if first in BY_ROUTE else "f"
    other: dict[str, st.SearchStrategy[str]] = {
        "{flow}": ground.some_id("f"),
        "{member}": st.sampled_from(
            ["description", "elems", "id", "filter", "nope", "\x00", "icon"]
        ),
        "{type}": st.sampled_from(["flowDropAdded", "trackHit", "apiCallByIdentity", "nope"]),
        "{year}": st.sampled_from(["2017", "1970", "9999", "0", "-1", "x", "9" * 30]),
        "{month}": st.sampled_from(["1", "12", "13", "0", "x"]),
        "{day}": st.sampled_from(["1", "31", "32", "x"]),
    }
    fallback = st.one_of(ground.some_id(prefix), *(ground.some_id(each) for each in "fit"))
    return draw(other.get(part, fallback))
