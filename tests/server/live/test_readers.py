"""What subscriptions are told: plain ones, listeners, views; live, replayed, and after a loss."""

from __future__ import annotations

import json

import pytest

from flowkit import limits
from tests.server.live.listener import Listener
from tests.server.visitor import visiting


def number(message):
    """The number in the position of a message."""
    return int(message["position"].rsplit(".", 1)[1])


def told(messages):
    """Type, change and value of messages."""
    return [
        (one["type"], one.get("change"), one.get("value", {}).get("elems", {}).get("n"))
        for one in messages
    ]


def change_drop(who, flow, drop, **elems):
    """Give a drop other elements."""
    answer = who.ask("PUT", f"/drop/{flow['id']}/{drop['id']}", {"elems": elems})
    assert answer.status == 200, answer.errors


def some_changes(who, flow):
    """A drop of each fate; six changes."""
    first = who.drop(flow, n=1)
    body = {"elems": {"n": 2}, "fhash": "f"}
    who.ask("POST", f"/drop/{flow['id']}", body)
    who.ask("POST", f"/drop/{flow['id']}", {**body, "elems": {"n": 3}})
    change_drop(who, flow, first, n=4)
    who.ask("DELETE", f"/drop/{flow['id']}/{first['id']}")
    who.ask("PUT", f"/flow/{flow['id']}", {"capacity": 0})


ALL = [
    ("message", "create", 1),
    ("message", "create", 2),
    ("message", "replace", 3),
    ("message", "update", 4),
    ("message", "delete", 4),
    ("message", "evict", 3),
]
"""What ``some_changes`` are told as."""

KINDS = ["create", "replace", "update", "delete", "evict"]


# Plain subscriptions


def test_a_plain_push_has_exactly_its_four_members_in_their_order(nora, house):
    """Byte for byte what old clients get (9.4), with readers on the same flow, too."""
    with Listener(nora) as heard:
        assert heard.subscribe(path="/nora/house") == {}
        drop = nora.drop(house, n=1)
        alone = heard._ws.recv(5.0)
        heard.subscribe(path="/nora/house", sub="r", filter="n > 0")
        heard.subscribe(path="/nora/house", sub="v", live=True)
        heard.until("position")
        other = nora.drop(house, n=1)
        beside = next(text for text in iter(heard._ws.recv, None) if '"sub"' not in text)
    value = json.dumps(drop, separators=(",", ":"))
    assert alone == f'{{"type":"message","resource":"{house["id"]}","value":{value}}}'
    assert beside == alone.replace(drop["id"], other["id"])


def test_by_id_and_by_path_is_one_subscription(nora, house):
    """Repeating it is a success and changes nothing; one push for each drop."""
    with Listener(nora) as heard:
        for place in ({"path": "/nora/house"}, {"flowId": house["id"]}, {"path": "/Nora/house/"}):
            assert heard.subscribe(**place) == {}
        nora.drop(house, n=1)
        assert heard.next()["value"]["elems"] == {"n": 1}
        assert heard.is_quiet()
        assert heard.ask("unsubscribe", path="/nora/house")["head"]["ok"]
        nora.drop(house, n=2)
        assert heard.is_quiet()


def test_updates_and_deletions_are_not_pushed_to_plain_subscriptions(nora, house):
    """New drops only, and those that replace by their fhash (14, decision 4)."""
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house")
        some_changes(nora, house)
        assert [one["value"]["elems"]["n"] for one in heard.take(3)] == [1, 2, 3]
        assert heard.is_quiet()


def test_a_flow_of_capacity_0_pushes_as_well(nora):
    """Nothing is kept of it; listeners of creates get it, too."""
    flow = nora.flow("/nora/radio", capacity=0)
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/radio")
        heard.subscribe(path="/nora/radio", sub="r")
        heard.subscribe(path="/nora/radio", sub="v", live=True)
        heard.until("position")
        nora.drop(flow, n=1)
        first, second = heard.take(2)
        assert (first["value"]["elems"], second["change"]) == ({"n": 1}, "create")
        assert heard.is_quiet()


def test_what_a_track_writes_is_pushed(nora, house):
    """In the order of storage, as everything else."""
    nora.flow("/nora/warm")
    nora.track("/nora/house", "/nora/warm", filter="n > 1")
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/warm")
        for n in (1, 2, 3):
            nora.drop(house, n=n)
        assert [one["value"]["elems"]["n"] for one in heard.take(2)] == [2, 3]


@pytest.mark.parametrize("hints", [False, True])
def test_elements_are_typed_if_the_session_was_made_so(nora, hints):
    """Plain by default (9.4); a reader may ask for itself."""
    flow = nora.flow("/nora/typed")
    typed = nora.as_version("v0.1")
    with Listener(nora, hints=hints) as heard:
        heard.subscribe(path="/nora/typed")
        heard.subscribe(path="/nora/typed", sub="r", hints=not hints)
        body = {"elems": {"n": {"type": "integer", "value": 5}}}
        assert typed.ask("POST", f"/drop/{flow['id']}", body).status == 201
        shown = [one["value"]["elems"]["n"] for one in heard.take(2)]
    forms = [{"type": "integer", "value": 5}, 5]
    assert shown == (forms if hints else forms[::-1])


# Listeners


@pytest.mark.parametrize("kinds", [KINDS, ["delete", "evict"], ["update"], None])
def test_a_listener_gets_the_kinds_that_it_names(nora, house, kinds):
    """By default what old subscriptions push."""
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="r", **({"changes": kinds} if kinds else {}))
        heard.subscribe(path="/nora/house", sub="end", changes=["evict"])
        some_changes(nora, house)
        messages = []
        while (message := heard.next())["sub"] != "end":
            messages.append(message)
        wanted = [one for one in ALL if one[1] in (kinds or ["create", "replace"])]
        while len(messages) < len(wanted):
            messages.append(heard.next())
    assert told(messages) == wanted


def test_the_filter_is_asked_about_the_new_state_or_the_last_one(nora, house):
    """Of an update the new one, of an end the old one (positions 4)."""
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="r", filter="n > 3", changes=KINDS)
        some_changes(nora, house)
        nora.drop(house, n=9)
        messages = heard.take(3)
    assert told(messages) == [*ALL[3:5], ("message", "create", 9)]


def test_a_listener_sees_only_what_it_asks_for(nora, house):
    """``only`` cuts the value, never the filter."""
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="r", filter="n == 1", only="m")
        drop = nora.drop(house, n=1, m=2)
        assert heard.next()["value"] == {"id": drop["id"], "elems": {"m": 2}}


def test_the_reply_comes_first_and_says_where_it_begins(nora, house):
    """Then everything after that place, once."""
    nora.drop(house, n=1)
    with Listener(nora) as heard:
        body = heard.subscribe(flowId=house["id"], sub="r")
        assert (body["sub"], body["resource"], body["mode"]) == ("r", house["id"], "live")
        assert number(body) == 1
        nora.drop(house, n=2)
        assert number(heard.next()) == 2


def test_since_start_replays_what_is_held(nora, house):
    """Then a place, then live."""
    drops = [nora.drop(house, n=n)["id"] for n in range(3)]
    with Listener(nora) as heard:
        body = heard.subscribe(path="/nora/house", sub="r", since="start")
        assert (body["mode"], number(body)) == ("replay", 0)
        messages = heard.until("position")
        assert [one["value"]["id"] for one in messages[:-1]] == drops
        assert messages[-1]["position"] == messages[-2]["position"]
        nora.drop(house, n=9)
        assert number(heard.next()) == 4


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_a_replay_is_what_a_connected_reader_got(nora, monkeypatch, page):
    """Message for message, position for position, from any place and for any kinds (I6)."""
    flow = nora.flow("/nora/f", capacity=10, history=100)
    with Listener(nora) as heard:
        for sub, changes in (("all", KINDS), ("some", ["create", "update"]), ("end", ["evict"])):
            heard.subscribe(path="/nora/f", sub=sub, changes=changes)
        some_changes(nora, flow)
        live = heard.until("message")
        while live[-1]["sub"] != "end":
            live.append(heard.next())
        places = ["start", *(one["position"] for one in live if one["sub"] == "all")]
        monkeypatch.setattr(limits, "replay_page_changes_max", page)
        for sub, changes in (("all", KINDS), ("some", ["create", "update"])):
            for seq, since in enumerate(places):
                heard.subscribe(path="/nora/f", sub=sub, changes=changes, since=since)
                replayed = heard.until("position")
                wanted = [one for one in live if one["sub"] == sub and number(one) > seq]
                assert replayed[:-1] == wanted
                assert number(replayed[-1]) == 6


def test_a_place_from_a_find_loses_nothing(nora, house):
    """Find, then subscribe since there (positions 2.7)."""
    nora.drop(house, n=1)
    found = nora.ask("GET", f"/drop/{house['id']}?positions=1")
    nora.drop(house, n=2)
    with Listener(nora) as heard:
        since = found.head["position"]
        heard.subscribe(path="/nora/house", sub="r", since=since)
        assert heard.next()["value"]["elems"] == {"n": 2}


def test_the_same_name_again_replaces_the_reader(nora, house):
    """After the new reply no message of the old one follows."""
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="r", filter="n == 1")
        heard.subscribe(path="/nora/house", sub="r", filter="n == 2")
        nora.drop(house, n=1)
        nora.drop(house, n=2)
        assert heard.next()["value"]["elems"] == {"n": 2}
        assert heard.ask("unsubscribe", sub="r")["head"]["ok"]
        nora.drop(house, n=2)
        assert heard.is_quiet()


def test_unsubscribing_by_flow_ends_the_plain_subscription_only(nora, house):
    """And by name that reader only."""
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house")
        heard.subscribe(path="/nora/house", sub="r")
        heard.ask("unsubscribe", flowId=house["id"])
        nora.drop(house, n=1)
        assert heard.next()["sub"] == "r"
        assert heard.is_quiet()


# Gaps


def test_what_was_forgotten_is_a_gap_and_what_is_held_follows(nora):
    """The gap has no place of its own; the marks say exactly from where to where."""
    flow = nora.flow("/nora/f", capacity=2, history=1)
    for n in range(6):
        nora.drop(flow, n=n)
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/f", sub="r", since="start")
        gap, *messages = heard.until("position")
    assert (gap["type"], gap["reason"], "position" in gap) == ("gap", "forgotten", False)
    # 0 1 | 2: evict 3, create 4 | 3: 5, 6 | 4: 7, 8 | 5: 9, 10; the state begun at 6 is still held
    assert [one["to"].rsplit(".", 1)[1] for one in [gap]] == ["4"]
    assert [number(one) for one in messages] == [6, 8, 10, 10]


def test_a_place_that_is_held_gets_no_gap(nora):
    """Also at the very mark (I4)."""
    flow = nora.flow("/nora/f", capacity=2, history=1)
    for n in range(6):
        nora.drop(flow, n=n)
    place = nora.ask("GET", f"/drop/{flow['id']}?positions=1").head["position"]
    at_mark = place.rsplit(".", 1)[0] + ".4"
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/f", sub="r", since=at_mark)
        assert [one["type"] for one in heard.until("position")] == [*["message"] * 3, "position"]


def test_a_flow_that_was_made_anew_at_the_same_path_is_a_gap(nora, house):
    """By path; by id the place belongs to another flow and is refused."""
    place = nora.ask("GET", f"/drop/{house['id']}?positions=1").head["position"]
    nora.ask("DELETE", f"/flow/{house['id']}")
    again = nora.flow("/nora/house")
    nora.drop(again, n=1)
    with Listener(nora) as heard:
        body = heard.subscribe(path="/nora/house", sub="r", since=place)
        assert (body["resource"], number(body)) == (again["id"], 0)
        gap, message, _ = heard.until("position")
        assert (gap["reason"], gap["from"], number(gap)) == ("recreated", place, 0)
        assert message["value"]["elems"] == {"n": 1}
        refused = heard.ask("subscribe", flowId=again["id"], sub="s", since=place)
        assert refused["head"]["errors"] == ["since: is a position of another Flow"]


def test_places_of_a_lost_history_are_gaps(nora, house):
    """Of an epoch that is not known, and beyond what was written under one that is."""
    nora.drop(house, n=1)
    place = nora.ask("GET", f"/drop/{house['id']}?positions=1").head["position"]
    head, _, _ = place.rpartition(".")
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="r", since=f"{head}.7")
        gap, after = heard.until("position")
        assert (gap["reason"], gap["position"], after["position"]) == ("rolled-back", place, place)
        unknown = f"p1.{house['id']}.zzzzzzzz.1"
        heard.subscribe(path="/nora/house", sub="u", since=unknown)
        gap, _ = heard.until("position")
        assert (gap["reason"], gap["from"], gap["to"]) == ("unknown", unknown, place)


def test_places_outlive_a_restart(tmp_path):
    """Each start has an epoch of its own; an old place names the same change as before."""
    with visiting(tmp_path) as (nora, _):
        flow = nora.flow("/nora/f")
        nora.drop(flow, n=1)
        place = nora.ask("GET", f"/drop/{flow['id']}?positions=1").head["position"]
        nora.drop(flow, n=2)
        token = nora.token
    with visiting(tmp_path) as (nora, _):
        nora.token = token
        nora.drop(flow, n=3)
        with Listener(nora) as heard:
            heard.subscribe(path="/nora/f", sub="r", since=place)
            messages = heard.until("position")
    assert [one.get("value", {}).get("elems") for one in messages] == [{"n": 2}, {"n": 3}, None]
    assert [one["position"].split(".")[2] == place.split(".")[2] for one in messages] == [
        True,
        False,
        False,
    ]


def test_a_quiet_filter_is_told_its_place_now_and_then(nora, house, monkeypatch):
    """After so many changes that did not match, so that it cannot fall behind what is kept."""
    monkeypatch.setattr(limits, "progress_changes_max", 5)
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="r", filter="n > 100")
        for n in range(12):
            nora.drop(house, n=n)
        assert [number(one) for one in heard.take(2)] == [5, 10]
        monkeypatch.setattr(limits, "progress_s", 0.0)
        assert number(heard.next()) == 12
        assert heard.is_quiet(0.6)


def test_a_deleted_flow_ends_its_readers(nora, house):
    """With the reason; plain subscriptions hear nothing, as ever."""
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="r")
        heard.subscribe(path="/nora/house")
        nora.ask("DELETE", f"/flow/{house['id']}")
        end = heard.next()
        assert (end["type"], end["reason"], end["status"]) == ("end", "deleted", 404)
        assert heard.is_quiet()
        assert heard.ask("subscribe", path="/nora/house", sub="r")["head"]["status"] == 404


def test_a_filter_that_is_given_up_ends_its_reader(nora, house):
    """Never a silent no-match; the others go on."""
    pattern = "(a{9}b{9}){9}" * 8
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="r", filter=f"s =~ /{pattern}/")
        heard.subscribe(path="/nora/house", sub="other")
        nora.drop(house, s="x" * 900_000)
        end, message = sorted(heard.take(2), key=lambda one: one["type"])
        assert (end["type"], end["sub"], end["reason"]) == ("end", "r", "filter")
        assert message["sub"] == "other"


# Views


def apply(held, messages):
    """What a client holds after *messages*: put, and remove if held."""
    for one in messages:
        if one["type"] == "snapshot" and one["state"] == "begin":
            held.clear()
        elif one["type"] in ("item", "enter", "update"):
            held[one["value"]["id"]] = one["value"]["elems"]["n"]
        elif one["type"] == "leave":
            held.pop(one["id"], None)
    return held


def test_a_view_begins_with_a_snapshot_and_follows(nora, house):
    """Enter, update and leave, with the reason (positions 4)."""
    drops = [nora.drop(house, n=n) for n in (1, 5, 7)]
    with Listener(nora) as heard:
        body = heard.subscribe(path="/nora/house", sub="v", filter="n > 4", live=True)
        assert body["mode"] == "snapshot"
        begin, *items, end, _ = heard.until("position")
        assert (begin["state"], end["state"], number(end)) == ("begin", "end", 3)
        assert {one["value"]["elems"]["n"] for one in items} == {5, 7}
        change_drop(nora, house, drops[0], n=9)
        change_drop(nora, house, drops[1], n=6)
        change_drop(nora, house, drops[2], n=2)
        nora.ask("DELETE", f"/drop/{house['id']}/{drops[1]['id']}")
        nora.ask("PUT", f"/flow/{house['id']}", {"capacity": 1})
        seen = heard.take(5)
    assert [(one["type"], one.get("reason")) for one in seen] == [
        ("enter", None),
        ("update", None),
        ("leave", "changed"),
        ("leave", "deleted"),
        ("leave", "evicted"),
    ]
    assert apply({}, [*items, *seen]) == {}


@pytest.mark.parametrize("page", [1, 1000])
def test_a_view_resumes_from_its_place_without_a_snapshot(nora, house, monkeypatch, page):
    """Where what it missed is still held with its old states."""
    monkeypatch.setattr(limits, "replay_page_changes_max", page)
    first, second = nora.drop(house, n=5), nora.drop(house, n=1)
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="v", filter="n > 4", live=True)
        *_, last = heard.until("position")
        heard.ask("unsubscribe", sub="v")
        change_drop(nora, house, first, n=0)
        change_drop(nora, house, second, n=8)
        ask = {"path": "/nora/house", "sub": "v", "filter": "n > 4", "live": True}
        body = heard.subscribe(**ask, since=last["position"])
        assert body["mode"] == "replay"
        assert [one["type"] for one in heard.until("position")] == ["leave", "enter", "position"]


def test_a_view_whose_place_is_forgotten_gets_a_snapshot_and_never_a_gap(nora):
    """Whatever the table says of gaps."""
    flow = nora.flow("/nora/f", capacity=2, history=0)
    nora.drop(flow, n=1)
    place = nora.ask("GET", f"/drop/{flow['id']}?positions=1").head["position"]
    for n in (2, 3, 4):
        nora.drop(flow, n=n)
    with Listener(nora) as heard:
        for sub, since in (("a", place), ("b", f"p1.{flow['id']}.zzzzzzzz.9")):
            body = heard.subscribe(path="/nora/f", sub=sub, live=True, since=since)
            assert body["mode"] == "snapshot"
            messages = heard.until("position")
            assert "gap" not in {one["type"] for one in messages}
            assert sorted(apply({}, messages).values()) == [3, 4]


def test_a_snapshot_that_is_overtaken_begins_anew_and_ends_at_last(nora, monkeypatch):
    """Pages of one row, and a writer that forgets states between any two of them."""
    flow = nora.flow("/nora/f", capacity=4, history=0)
    for n in range(4):
        nora.drop(flow, n=n)
    monkeypatch.setattr(limits, "replay_page_changes_max", 1)
    store, count = nora.app.store, iter(range(100, 112))
    read = store.read

    def read_and_write(job, **options):
        page = read(job, **options)
        n = next(count, None)
        if n is not None:
            nora.drop(flow, n=n)
        return page

    with Listener(nora) as heard:
        monkeypatch.setattr(nora.app.live, "read", read_and_write)
        heard.subscribe(path="/nora/f", sub="v", live=True)
        held, begun = {}, 0
        while sorted(held.values()) != [108, 109, 110, 111]:
            message = heard.next()
            begun += message.get("state") == "begin"
            apply(held, [message])
        assert begun >= 2
        last = nora.drop(flow, n=999)
        while last["id"] not in held:
            apply(held, [heard.next()])
        assert len(held) == 4
