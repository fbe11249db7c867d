"""Sessions: connections come and go, rights end, slow readers are dealt with."""

from __future__ import annotations

import json
import time

import pytest
from websockets.exceptions import InvalidStatus

from flowkit import limits
from flowkit.green import Cell, monotonic
from flowkit.protocol.envelope import Request
from flowkit.protocol.session import GOING_AWAY, POLICY, TOO_LARGE, TOO_SLOW, State
from flowkit.server.live.pushes import Pushes
from tests.server.live.listener import Listener, new_session
from tests.server.visitor import Visitor

BIG = "x" * 60_000
"""An element that fills the kernel's buffers soon."""


def wait_until(is_so, timeout_s=5.0):
    """Return once *is_so* says so."""
    until = monotonic() + timeout_s
    while not is_so():
        assert monotonic() < until, "it did not come about"
        time.sleep(0.005)


def token(who, paths, **members):
    """Somebody with a Token of *who*, and the Token."""
    made = who.ask("POST", "/token", {"paths": paths, **members}).body
    return Visitor(who.app, who.clock, who.account, made["tokenString"]), made


# Making and keeping


@pytest.mark.parametrize("held", ["", "x" * 32])
def test_a_session_needs_a_credential(nora, held):
    """403, as everywhere; nothing is made."""
    headers = {"x-auth-account": "nora", "x-auth-token": held}
    assert nora.app.handle(Request("POST", ("session",), {}, headers)).status == 403
    assert not nora.app.live._sessions


def test_a_session_id_cannot_be_guessed(nora):
    """It is the secret of the connection: 128 random bits."""
    ids = {new_session(nora) for _ in range(20)}
    assert len(ids) == 20
    assert all(len(each) == 32 for each in ids)


@pytest.mark.parametrize("address", ["GET /session", "POST /session/x/ws", "GET /session/x/y"])
def test_other_addresses_of_sessions_do_not_exist(nora, address):
    """405 where there is another method, 404 otherwise; both as envelopes."""
    method, _, path = address.partition(" ")
    answer = nora.app.handle(Request.from_target(method, path))
    assert answer.status == (404 if path.endswith("y") else 405)
    assert json.loads(answer.body)["head"]["ok"] is False


def test_an_unknown_session_is_404_at_the_handshake(nora):
    """So is one that has ended."""
    with Listener(nora) as heard:
        ended = heard.id
    wait_until(lambda: not nora.app.live._sessions)
    for session_id in ("0" * 32, ended):
        with pytest.raises(InvalidStatus) as refused:
            Listener(nora, session_id)
        assert refused.value.response.status_code == 404


def test_a_second_handshake_replaces_the_first_one(nora, house):
    """The plain subscriptions go on over the new connection."""
    with Listener(nora) as first:
        first.subscribe(path="/nora/house")
        with Listener(nora, first.id) as second:
            assert first.closed_with()[0] == GOING_AWAY
            drop = nora.drop(house, n=1)
            assert second.next()["value"]["id"] == drop["id"]


def test_a_session_that_is_never_used_dies(nora, monkeypatch):
    """Its clock begins when it is made."""
    session_id = new_session(nora)
    session = nora.app.live.session(session_id)
    session.life._since = dict.fromkeys(session.life._since, monotonic() - limits.session_unused_s)
    wait_until(lambda: not nora.app.live._sessions)


def test_after_a_loss_the_session_can_be_resumed_with_what_it_missed(nora, house):
    """Plain subscriptions live on for a while and what they push waits; readers have ended."""
    with Listener(nora) as first:
        first.subscribe(path="/nora/house")
        first.subscribe(path="/nora/house", sub="reader")
        session = nora.app.live.session(first.id)
        first.break_off()
    wait_until(lambda: session.count == 1)
    drops = [nora.drop(house, n=n)["id"] for n in range(3)]
    with Listener(nora, session.id) as second:
        assert [one["value"]["id"] for one in second.take(3)] == drops
        assert second.is_quiet()


def test_replies_end_with_the_connection_that_asked(nora, house):
    """After a loss nobody knows what they answer (protocol 9.6): the next connection gets none."""
    live = nora.app.live
    with Listener(nora) as first:
        first.subscribe(path="/nora/house")
        session = live.session(first.id)
        first.break_off()
    wait_until(lambda: session._line is None)
    live.loop.call(session.reply, b"late")
    nora.drop(house, n=1)
    with Listener(nora, session.id) as second:
        assert second.next()["value"]["elems"] == {"n": 1}
        assert not second._replies


def test_what_waits_for_a_lost_session_is_bounded(nora, house):
    """Beyond the bound it cannot be resumed any more: 404, never a silent hole."""
    nora.app.live.queue_messages_max = 3
    with Listener(nora) as first:
        first.subscribe(path="/nora/house")
        first.break_off()
    session = nora.app.live.session(first.id)
    wait_until(lambda: session._line is None)
    for n in range(5):
        nora.drop(house, n=n)
    wait_until(lambda: session.is_closed)
    with pytest.raises(InvalidStatus):
        Listener(nora, first.id)


def test_a_silent_client_is_closed_with_1001(nora):
    """After 90 s without any frame; here they have passed."""
    with Listener(nora) as heard:
        life = nora.app.live.session(heard.id).life
        wait_until(lambda: life.state is State.OPEN)
        life._since["heard"] -= limits.session_idle_s
        assert heard.closed_with()[0] == GOING_AWAY


def test_the_server_sends_pings(nora):
    """Every 30 s; the client's library answers, and that counts as heard."""
    with Listener(nora) as heard:
        life = nora.app.live.session(heard.id).life
        wait_until(lambda: life.state is State.OPEN)
        before = life._since["heard"]
        life._since["pulsed"] -= limits.session_ping_s
        wait_until(lambda: heard.is_quiet(0.01) and life._since["heard"] > before)


def test_a_stop_closes_every_connection_with_1001(tmp_path):
    """Clients connect again, to the next server."""
    from tests.server.visitor import visiting

    with visiting(tmp_path) as (nora, _):
        heard = Listener(nora)
        ended: Cell[None] = Cell()
        from flowkit.green import start_thread

        start_thread(lambda: (nora.app.live.close(), ended.set(None)))
        assert heard.closed_with()[0] == GOING_AWAY
        assert ended.wait(5.0)


def test_there_is_a_bound_on_sessions(nora, monkeypatch):
    """503 and a word about when to come again."""
    monkeypatch.setattr(limits, "sessions_max", 2)
    new_session(nora), new_session(nora)
    headers = {"x-auth-account": "nora", "x-auth-token": nora.token}
    answer = nora.app.handle(Request("POST", ("session",), {}, headers))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


def test_sessions_leave_files_to_requests_and_to_the_store(nora, monkeypatch):
    """At most half of the files that the process may open are sockets of sessions."""
    monkeypatch.setattr("resource.getrlimit", lambda _what: (6, 6))
    for _ in range(3):
        new_session(nora)
    headers = {"x-auth-account": "nora", "x-auth-token": nora.token}
    assert nora.app.handle(Request("POST", ("session",), {}, headers)).status == 503


def test_there_is_a_bound_on_subscriptions(nora, house, monkeypatch):
    """The others go on."""
    monkeypatch.setattr(limits, "subscriptions_max", 2)
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house")
        heard.subscribe(path="/nora/house", sub="a")
        reply = heard.ask("subscribe", path="/nora/house", sub="b")
        assert reply["head"]["status"] == 400
        heard.subscribe(path="/nora/house", sub="a", filter="n > 0")


def test_a_frame_that_is_too_large_ends_the_connection(nora):
    """1009, before it is kept."""
    with Listener(nora) as heard:
        heard.say("x" * (limits.frame_bytes_max + 1))
        assert heard.closed_with()[0] == TOO_LARGE


def test_the_token_of_a_session_is_never_shown(nora):
    """Neither by repr nor in errors."""
    session = nora.app.live.session(new_session(nora))
    assert nora.token not in repr(session)
    assert session.id not in repr(session)


# Rights


def test_a_revoked_token_stops_delivery_within_a_second(nora, house):
    """The connection is closed with 1008."""
    guest, made = token(nora, {"/nora/house": {"dropRead": True}})
    with Listener(guest) as heard:
        heard.subscribe(path="/nora/house")
        begun = monotonic()
        nora.ask("DELETE", f"/token/{made['id']}")
        assert heard.closed_with()[0] == POLICY
        assert monotonic() - begun < 1.0


def test_an_expired_token_stops_delivery_within_a_second(nora, house):
    """Nobody writes anything when it expires."""
    guest, _ = token(nora, {"/nora/house": {"dropRead": True}}, duration=60_000)
    with Listener(guest) as heard:
        heard.subscribe(path="/nora/house")
        nora.clock.now_ms += 60_000
        begun = monotonic()
        assert heard.closed_with()[0] == POLICY
        assert monotonic() - begun < 1.0


def test_a_master_token_that_is_rotated_ends_its_sessions(nora):
    """Whoever held the old one is out."""
    from flowkit.server.auth import rotate

    with Listener(nora) as heard:
        rotate(nora.app.store, "nora")
        assert heard.closed_with()[0] == POLICY


def test_a_share_that_ends_ends_the_readers_of_its_flows(nora, bob, house):
    """Within a second, with a word for readers; the session goes on."""
    other = nora.flow("/nora/cellar")
    bob_id = bob.ask("GET", "/identity").body[0]["id"]
    share = {"paths": {"/nora/house": {"dropRead": True}}, "issuedTo": bob_id}
    made = nora.ask("POST", "/share", share).body
    nora.ask("PUT", f"/flow/{other['id']}", {"public": True})
    with Listener(bob) as heard:
        heard.subscribe(path="/nora/house", sub="reader")
        heard.subscribe(path="/nora/house")
        heard.subscribe(path="/nora/cellar", sub="public")
        begun = monotonic()
        nora.ask("DELETE", f"/share/{made['id']}")
        end = heard.next()
        assert monotonic() - begun < 1.0
        assert (end["type"], end["sub"], end["reason"], end["status"]) == (
            "end",
            "reader",
            "forbidden",
            403,
        )
        nora.drop(house, n=1)
        drop = nora.drop(other, n=2)
        assert heard.next()["value"]["id"] == drop["id"]
        nora.ask("PUT", f"/flow/{other['id']}", {"public": False})
        assert heard.next()["reason"] == "forbidden"


# Slow readers


def fill(nora, flow, count, size=BIG):
    """Write large drops."""
    for n in range(count):
        nora.drop(flow, n=n, text=size)


def test_a_slow_plain_subscription_is_disconnected_with_1013(nora, house):
    """And nobody else notices."""
    nora.app.live.queue_messages_max = 4
    with Listener(nora) as slow, Listener(nora) as quick:
        slow.subscribe(path="/nora/house")
        quick.subscribe(path="/nora/house")
        session = nora.app.live.session(slow.id)
        for n in range(60):
            nora.drop(house, n=n, text=BIG)
            assert quick.next()["value"]["elems"]["n"] == n
            if session.is_closed:
                break
        assert session.is_closed
        assert slow.closed_with()[0] == TOO_SLOW
        assert nora.app.live.too_slow == 1


def test_a_slow_listener_that_drops_is_told_what_it_missed(nora, house):
    """A gap from the last message that it got to the place where it goes on."""
    nora.app.live.queue_messages_max = 4
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="a", slow="drop")
        fill(nora, house, 40)
        messages = heard.until("gap")
        gap = messages.pop()
        assert gap["reason"] == "slow"
        assert gap["from"] == messages[-1]["position"]
        assert gap["to"] == gap["position"]
        assert len(messages) < 40
        last = nora.drop(house, n=99)
        after = heard.next()
        assert after["value"]["id"] == last["id"]
        numbers = [int(one["position"].rsplit(".", 1)[1]) for one in (*messages, gap, after)]
        assert numbers == [*range(1, len(messages) + 1), 40, 41]


def test_a_slow_view_is_squashed_and_ends_up_right(nora, house):
    """Fewer messages, the same set."""
    nora.app.live.queue_messages_max = 4
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="v", live=True, slow="squash")
        heard.until("position")
        drops = [nora.drop(house, n=n, text=BIG)["id"] for n in range(3)]
        for round_ in range(30):
            for one in drops:
                body = {"elems": {"n": round_, "text": BIG}}
                nora.ask("PUT", f"/drop/{house['id']}/{one}", body)
        nora.ask("DELETE", f"/drop/{house['id']}/{drops[2]}")
        last = nora.drop(house, n=1000)["id"]
        held, count = {}, 0
        while last not in held:
            message = heard.next()
            count += 1
            if message["type"] in ("enter", "update"):
                held[message["value"]["id"]] = message["value"]["elems"]["n"]
            elif message["type"] == "leave":
                held.pop(message["id"], None)
        assert held == {drops[0]: 29, drops[1]: 29, last: 1000}
        assert count < 60


def test_a_view_that_is_far_too_slow_gets_a_new_snapshot(nora, house):
    """Over twice the bound its queue is dropped; once there is room it begins anew."""
    nora.app.live.queue_messages_max = 4
    with Listener(nora) as heard:
        heard.subscribe(path="/nora/house", sub="v", live=True, slow="squash")
        heard.until("position")
        fill(nora, house, 40)
        held, begun = set(), 0
        while held != set(range(40)):
            message = heard.next()
            if message.get("state") == "begin":
                held, begun = set(), begun + 1
            elif message["type"] in ("item", "enter", "update"):
                held.add(message["value"]["elems"]["n"])
        assert begun == 1


def test_squashing_costs_little_for_each_change(nora, house, monkeypatch):
    """Also if there are more drops than the bound, so that nothing gets it below."""
    nora.app.live.queue_messages_max = 40
    session_id = new_session(nora)
    ask = {"type": "subscribe", "path": "/nora/house", "sub": "v", "live": True, "slow": "squash"}
    body = json.dumps(ask).encode()
    nora.app.handle(Request("POST", ("session", session_id, "polling"), {}, {}, body))
    session = nora.app.live.session(session_id)
    reader = session.readers()[0]
    squashed, usual = [], Pushes.squash
    monkeypatch.setattr(
        Pushes, "squash", lambda self, *args: squashed.append(self.messages) or usual(self, *args)
    )
    wait_until(lambda: reader.is_attached)  # what waits of a snapshot is not squashed
    drops = [nora.drop(house, n=n)["id"] for n in range(60)]
    for n in range(240):
        nora.ask("PUT", f"/drop/{house['id']}/{drops[n % 60]}", {"elems": {"n": n}})
    wait_until(lambda: reader.pos == 300)
    assert 10 < len(squashed) <= 300 / 10
    assert max(squashed) <= 2 * 40 + 1
    assert reader.is_attached
    assert session.pushes.messages <= 60 + 40 / 4


def test_who_reads_no_replies_is_asked_no_further(nora, house):
    """Its commands wait in the socket, not in memory."""
    nora.app.live.queue_bytes_max = 200_000
    fill(nora, house, 20)
    with Listener(nora) as heard:
        session = nora.app.live.session(heard.id)
        for n in range(10):
            heard.say({"type": "findmany", "object": "drop", "flowId": house["id"], "msgId": n})
        wait_until(lambda: session.pushes.is_full)
        assert len(session.pushes) < 10
        assert [heard.reply()["head"]["status"] for _ in range(10)] == [200] * 10
