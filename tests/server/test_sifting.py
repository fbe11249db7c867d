"""A find over devices and other objects, held against ``look`` over the whole documents."""

from __future__ import annotations

import random

import pytest

from flowkit.errors import FilterError, LimitError
from flowkit.query.nodes import Filter, Within, Zip
from flowkit.query.params import Query
from flowkit.query.parse import parse
from flowkit.query.patterns import search
from flowkit.query.render import render
from flowkit.server.listing import look
from flowkit.server.store.schema import open_file
from flowkit.server.store.sqlite import FILE_NAME
from tests.server.visitor import Visitor, visiting
from tests.together.agreement import NAMES, NOW_MS, TEXTS, Draw

STORED = ("id", "path", "deviceId", "displayName", "creationDate", "lastEditDate", "tokenId", "no")
COMPUTED = ("status", "timeSinceLastSeen", "generation", "tokenString", "lastSeen")
DOCUMENTS = ("desired", "reported", "tags")
VERSIONS = ("desiredVersion", "reportedVersion")


SORTS = (
    *("lastSeen", "status", "timeSinceLastSeen", "tags", "desiredVersion", "deviceId", "no.no"),
    *("reported.a", "reported.temp", "reported.tags.0", "reported.a.b", "tags.site"),
    *("generation.no", "path", "desired.\x00x", "desired.é😀", 'desired.q"t', "desired.a.1.b"),
)


class DrawDevices(Draw):
    """Draws devices as the store keeps them, and filters over what is shown of them."""

    def path(self) -> tuple[str, ...]:
        """A member, mostly one inside a document."""
        if self.random.random() < 0.4:
            return (self.one(STORED + COMPUTED + DOCUMENTS + VERSIONS),)
        names = [self.one(NAMES) for _ in range(self.random.choice((1, 1, 1, 2, 3, 4)))]
        return (self.one(DOCUMENTS), *names)

    def device(self, number: int, token_id: str) -> dict:
        """The members of one; what is not told yet is not there."""
        some = self.random.random
        members = {"path": f"/nora/d{number}", "tokenId": token_id, "status": "OK"}
        for kind in ("desired", "reported"):
            if some() < 0.7:
                members |= {kind: self.map(), f"{kind}Version": self.random.randrange(3)}
        options = {
            "tags": {"site": self.one(TEXTS), "a": self.scalar()},
            "deviceId": f"pump-{number}",
            "displayName": self.one(TEXTS),
            "lastSeen": self.one((NOW_MS, NOW_MS - 500, NOW_MS - 10_000)),
        }
        return members | {name: value for name, value in options.items() if some() < 0.6}

    def query(self, whole: Filter) -> dict[str, str]:
        """The parameters of a find."""
        asked = {"filter": render(whole), "limit": self.one(("3", "100"))}
        if self.random.random() < 0.5:
            asked["start"] = self.one(("0", "2"))
        if self.random.random() < 0.7:
            asked["sort"] = self.one(SORTS)
            asked["order"] = self.one(("asc", "desc"))
        if self.random.random() < 0.3:
            asked["only"] = self.one(("deviceId", "reported.a,status", "tags", "generation,no"))
        return asked


@pytest.fixture
def nora(tmp_path):
    """An account at the time that ages are measured from."""
    with visiting(tmp_path / "data") as (nora, _):
        nora.clock.now_ms = NOW_MS
        yield nora


@pytest.fixture
def askers(tmp_path):
    """Who may see all, who may see some as a Token, and an account that some are shared with."""
    with visiting(tmp_path / "data") as (nora, bob):
        nora.clock.now_ms = NOW_MS
        paths = {f"/nora/d{number}": {} for number in range(1, 25, 4)}
        secret = nora.ask("POST", "/token", {"paths": paths}).body["tokenString"]
        receiver = bob.ask("GET", "/identity").body[0]["id"]
        shared = {path: {"read": True} for path in list(paths)[:4]}
        made = nora.ask("POST", "/share", {"paths": shared, "issuedTo": receiver})
        assert made.status == 201, made.errors
        bob.app.store.write(
            lambda w: w.create_object(
                "device", "bob", {"path": "/bob/d", "tokenId": "k" + "0" * 24}, creator="i"
            )
        )
        yield nora, Visitor(nora.app, nora.clock, "nora", secret), bob


def fleet(nora, draw, count):
    """As many devices, of which some have lost their Token, at several times."""
    token = nora.ask("POST", "/token", {"paths": {"/nora": {}}}).body["id"]
    for number in range(count):
        members = draw.device(number, token if number % 3 else "k" + "0" * 24)
        nora.app.store.write(lambda w, m=members: w.create_object("device", "nora", m, creator="i"))


def asked_of(who, params, kind="device"):
    """A find, its parameters in the body: they may be long."""
    return who.ask("POST", f"/{kind}", params, headers={"x-http-method-override": "GET"})


def usable(draw: DrawDevices) -> Filter:
    """A filter that has a text and needs no table."""
    while True:
        try:
            whole = draw.filter()
            text = render(whole)
            is_one = parse(text) == whole
        except (FilterError, LimitError):
            continue
        has_code = any(isinstance(e, Within) and isinstance(e.place, Zip) for e in whole.walk())
        if is_one and not has_code and text:
            return whole


def agreed(who: Visitor, ids: list[str], draw: DrawDevices, count: int) -> int:
    """Hold finds against ``look`` over what *who* may read; how many of them found anything."""
    read = [who.ask("GET", f"/device/{each}") for each in ids]
    docs = [answer.body for answer in read if answer.status == 200]
    found_any = 0
    for _ in range(count):
        params = draw.query(usable(draw))
        query = Query.from_wire({**params, "only": None})
        wanted = look(docs, query, "device", now_ms=NOW_MS, places=None, search=search)
        answer = asked_of(who, params)
        assert answer.status == 200, (params, answer.errors)
        if "only" in params:
            only = params["only"]
            wanted = [who.ask("GET", f"/device/{each['id']}?only={only}").body for each in wanted]
        assert answer.body == wanted, params
        found_any += bool(wanted)
    return found_any


def ids_of(app, kind="device"):
    """Of all objects of a kind, whosever they are."""
    return app.store.read(lambda reader: [each.id for each in reader.objects(kind)])


@pytest.mark.parametrize("seed", range(6))
def test_a_find_over_devices_is_that_over_their_whole_documents(nora, seed):
    """Filter, order, ties, start, limit and members shown, whatever SQL judges of it."""
    draw = DrawDevices(seed)
    fleet(nora, draw, 25)

    assert agreed(nora, ids_of(nora.app), draw, 120) > 20


@pytest.mark.parametrize("seed", range(3))
def test_who_may_see_some_devices_finds_as_if_there_were_no_others(askers, seed):
    """A Token, and an account that has devices of its own besides those shared with it."""
    nora, token, bob = askers
    draw = DrawDevices(f"some {seed}")
    fleet(nora, draw, 25)

    for who, seen in ((token, 6), (bob, 5)):
        assert len(asked_of(who, {"limit": "100"}).body) == seen
        assert agreed(who, ids_of(nora.app), draw, 80) > 10


def test_a_pattern_does_not_run_over_what_may_not_be_seen(askers):
    """Else its time would tell whether another rule holds there: 400 if it does, 200 if not."""
    nora, token, bob = askers
    letters = random.Random(7).choices("abcdefghijklmnopqrstuvwxyz", k=600_000)
    members = {
        "path": "/nora/hidden",
        "tokenId": "k" + "0" * 24,
        "reported": {"pin": 4711, "log": "".join(letters)},
    }
    nora.app.store.write(lambda w: w.create_object("device", "nora", members, creator="i"))
    slow = " && ".join(
        f"NOT reported.log =~ /[a-q][^u-z]{{13}}[a-q][^u-z]{{12}}A{number}/" for number in range(45)
    )
    asked = {"filter": f"reported.pin == 4711 && {slow}"}

    for who in (token, bob):
        answer = asked_of(who, asked)
        assert (answer.status, answer.body) == (200, []), answer.errors
    plan = asked_of(token, {**asked, "explain": "1"}).head["plan"]
    assert (plan["filterInSql"], plan["filterInPython"].count("NOT")) == ("1", 45)


def test_an_index_of_thousands_of_digits_is_of_no_entry(nora):
    """Python itself refuses such numbers."""
    members = {"path": "/nora/d", "tokenId": "k" + "0" * 24, "reported": {"a": [1, 2]}}
    nora.app.store.write(lambda w: w.create_object("device", "nora", members, creator="i"))

    for index in ("1", "9" * 20, "9" * 5_000):
        answer = asked_of(nora, {"sort": f"reported.a.{index}", "order": "asc"})
        assert (answer.status, len(answer.body)) == (200, 1), answer.errors


def test_what_sql_judges_of_devices_and_what_python_does(nora):
    """Stored members are judged by SQL, computed ones and those with defaults by Python."""
    text = "reported.rpm > 5 && deviceId == 'pump-1' && status == 'OK' && tags != null"
    plan = asked_of(nora, {"filter": text, "explain": "1"}).head["plan"]

    assert plan["filterInPython"] == "(status == 'OK') && (tags != null)"
    assert plan["filterInSql"].count("json_type") > 1
    assert "INDEXED BY object_by_account" in plan["sql"]
    assert (
        asked_of(nora, {"filter": "MATCHES /x/", "explain": "1"})
        .head["plan"]["filterInPython"]
        .startswith("MATCHES")
    )


def test_an_index_lists_the_objects_of_a_find(nora):
    """SQLite itself says so."""
    plan = asked_of(nora, {"filter": "tags.a == 1", "explain": "1"}).head["plan"]

    connection = open_file(str(nora.app.store.folder / FILE_NAME), read_only=True)
    params = ("device", "nora", *("$.x" for _ in range(plan["parameters"] - 2)))
    rows = connection.execute(f"EXPLAIN QUERY PLAN {plan['sql']}", params).fetchall()
    connection.close()

    assert rows[0][3] == f"SEARCH object USING INDEX {plan['index']} (kind=? AND account=?)"


@pytest.fixture
def large(tmp_path):
    """A fleet whose documents are beyond the bound of an answer together, two of them are not."""
    with visiting(tmp_path / "data", answer_bytes_max=100_000) as (nora, _):
        token = nora.ask("POST", "/token", {"paths": {"/nora": {}}}).body["id"]
        for n in range(12):
            members = {
                "path": f"/nora/d{n}",
                "deviceId": f"pump-{n}",
                "tokenId": token,
                "status": "OK",
                "reported": {"firmware": f"{1 + n % 2}.{n}", "n": n, "log": "x" * 40_000},
                "tags": {"site": "oslo" if n == 7 else "bergen"},
            }
            nora.app.store.write(
                lambda w, m=members: w.create_object("device", "nora", m, creator="i")
            )
        yield nora


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"filter": "tags.site == 'oslo'"}, [7]),
        ({"filter": "deviceId == 'pump-3'"}, [3]),
        ({"filter": "reported.firmware < '2.0'", "limit": "2"}, [10, 8]),
        ({"filter": "reported.firmware < '2.0'", "only": "deviceId"}, [10, 8, 6, 4, 2, 0]),
        ({"filter": "status == 'OK' && reported.n > 9", "limit": "2"}, [11, 10]),
        ({"filter": "MATCHES /pump-1$/"}, [1]),
        ({"filter": "MATCHES /pump/", "only": "deviceId", "limit": "3"}, [11, 10, 9]),
        ({"sort": "reported.n", "order": "asc", "limit": "1"}, [0]),
        ({"sort": "reported.n", "start": "4", "limit": "2"}, [7, 6]),
        ({"only": "deviceId,tags"}, [*range(11, -1, -1)]),
        ({"only": "deviceId", "refs": "1"}, [*range(11, -1, -1)]),
        ({"limit": "0"}, []),
    ],
)
def test_a_fleet_is_found_whatever_its_documents_are_together(large, params, found):
    """Only what is answered counts against the bound."""
    answer = asked_of(large, params)

    assert answer.status == 200, answer.errors
    assert [doc["deviceId"] for doc in answer.body] == [f"pump-{n}" for n in found]


def test_what_is_answered_of_a_fleet_has_its_bound(large):
    """Three whole devices are too many; the way out is said."""
    assert asked_of(large, {"limit": "3"}).errors[0].endswith("use only or limit")
    assert asked_of(large, {"limit": "2"}).status == 200


def test_a_token_for_one_path_finds_its_devices_among_all(large):
    """Rights are looked at one device after the other, too."""
    for paths, found in (({"/nora/d5": {}}, ["pump-5"]), ({"/nora/d": {}}, [])):
        secret = large.ask("POST", "/token", {"paths": paths}).body["tokenString"]
        who = Visitor(large.app, large.clock, "nora", secret)
        for params in ({}, {"filter": "reported.n >= 0"}, {"filter": "status == 'OK'"}):
            assert [doc["deviceId"] for doc in asked_of(who, params).body] == found


def test_a_fleets_tokens_are_found_without_their_sum_being_a_bound(tmp_path):
    """There are as many as devices, and more."""
    with visiting(tmp_path / "data", answer_bytes_max=20_000) as (nora, bob):
        for n in range(60):
            paths = {f"/nora/f{n}{'x' * 90}-{m}": {"dropRead": True} for m in range(4)}
            made = nora.ask("POST", "/token", {"paths": paths, "description": str(n)})
            assert made.status == 201, made.errors
        found = asked_of(nora, {"filter": "description == '17'"}, "token").body
        by_string = asked_of(
            nora, {"filter": f"tokenString == '{found[0]['tokenString']}'"}, "token"
        ).body

        assert len(asked_of(nora, {"only": "description", "limit": "100"}, "token").body) == 60
        assert [doc["description"] for doc in found] == ["17"]
        assert by_string == found
        assert asked_of(bob, {}, "token").body == []


def test_a_find_over_a_fleet_ends_at_its_deadline(tmp_path):
    """Its time is bounded, as that of every find."""
    with visiting(tmp_path / "data", query_timeout_s=0.001) as (nora, _):
        draw = DrawDevices("late")
        for number in range(300):
            members = draw.device(number, "k" + "0" * 24)
            nora.app.store.write(
                lambda w, m=members: w.create_object("device", "nora", m, creator="i")
            )
        refused = asked_of(nora, {"filter": "MATCHES /nothing/"})

    assert refused.status == 400
    assert refused.errors[0].startswith("The query took longer than 0.001 s")
