"""The session: its table, its timers, and both ends back to back over a pretend line."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowkit import limits
from flowkit.protocol.session import TABLE, TIMERS, Act, Event, Session, Side, State

SIDES = pytest.mark.parametrize("side", Side, ids=lambda side: side.value)

OF_TIME = {Event.PULSE_DUE, Event.SILENT, Event.EXPIRED, Event.RETRY}

LATE = {
    Side.SERVER: {
        State.NEW: {Event.HEARD, Event.BROKEN, Event.PULSE_DUE, Event.SILENT, Event.RETRY},
        State.OPEN: {Event.EXPIRED, Event.RETRY},
        State.LOST: {Event.HEARD, Event.BROKEN, Event.PULSE_DUE, Event.SILENT, Event.RETRY},
        State.CLOSED: set(Event),
    },
    Side.CLIENT: {
        State.NEW: {Event.HEARD, Event.PULSE_DUE, Event.SILENT, Event.EXPIRED, Event.RETRY},
        State.OPEN: {Event.CONNECTED, Event.EXPIRED, Event.RETRY},
        State.LOST: set(Event) - {Event.RETRY, Event.ENDED},
        State.CLOSED: set(Event),
    },
}
"""What changes nothing in each state: it comes too late, or is of the other end."""


def reachable(side: Side, start: State) -> set[State]:
    """The states that some row of events leads to from *start*."""
    found, rest = {start}, [start]
    while rest:
        here = rest.pop()
        for (state, _), (after, _) in TABLE[side].items():
            if state is here and after not in found:
                found.add(after)
                rest.append(after)
    return found


@SIDES
def test_every_state_answers_every_event_or_lets_it_pass_by_intent(side):
    """A state and an event are in the table, or in the list of what comes too late, never both."""
    pairs = {(state, event) for state in State for event in Event}
    late = {(state, event) for state, events in LATE[side].items() for event in events}

    assert set(TABLE[side]) | late == pairs
    assert set(TABLE[side]) & late == set()


@SIDES
def test_what_comes_too_late_changes_nothing(side):
    """Neither the state nor a timer moves, and nothing is done."""
    for state, events in LATE[side].items():
        for event in events:
            session = at_state(side, state)
            before = session.next_at

            assert session.on(event, 5.0, retry_s=3.0) == ()
            assert (session.state, session.next_at) == (state, before)


@SIDES
def test_every_state_is_reached_and_every_state_can_end(side):
    """No state stands in the table for nothing, and from each there is a way to the end."""
    assert reachable(side, State.NEW) == set(State)
    assert [state for state in State if State.CLOSED not in reachable(side, state)] == []


@SIDES
def test_what_time_brings_is_in_the_table(side):
    """Each timer's event is answered in its state, and no other event of time is."""
    timed = {(state, timer.event) for state, timers in TIMERS[side].items() for timer in timers}

    assert timed == {pair for pair in TABLE[side] if pair[1] in OF_TIME}
    assert set(TIMERS[side]) == set(State)


@SIDES
def test_a_closed_session_waits_for_nothing(side):
    """After the end there is no timer: a forgotten session cannot wake up."""
    assert at_state(side, State.CLOSED).next_at is None


def test_every_act_is_done_by_some_end():
    """No act stands in the list for nothing."""
    done = {act for rows in TABLE.values() for _, acts in rows.values() for act in acts}

    assert done == set(Act)


def test_an_open_connection_is_never_silent_by_mere_waiting():
    """Whoever is heard from at each pulse is not given up, with a pulse lost in between."""
    assert 2 * limits.heartbeat_s < limits.session_idle_s
    assert limits.session_ping_s < limits.silence_s
    assert limits.heartbeat_s < limits.silence_s


def at_state(side: Side, state: State) -> Session:
    """A session that has come into *state* by the table, at time 0."""
    rows: dict[State, tuple[Event, ...]] = {
        State.NEW: (),
        State.OPEN: (Event.CONNECTED,),
        State.LOST: (Event.CONNECTED, Event.BROKEN),
        State.CLOSED: (Event.ENDED,),
    }
    session = Session(side, 0.0)
    for event in rows[state]:
        session.on(event, 0.0, retry_s=7.0)
    assert session.state is state
    return session


@pytest.mark.parametrize(
    ("side", "state", "when", "acts", "after"),
    [
        (Side.SERVER, State.NEW, limits.session_unused_s, (Act.FORGET,), State.CLOSED),
        (Side.SERVER, State.OPEN, limits.session_ping_s, (Act.PULSE,), State.OPEN),
        (Side.SERVER, State.LOST, limits.session_resume_s, (Act.FORGET,), State.CLOSED),
        (Side.CLIENT, State.OPEN, limits.heartbeat_s, (Act.PULSE,), State.OPEN),
        (Side.CLIENT, State.LOST, 7.0, (Act.CONNECT,), State.NEW),
    ],
)
def test_time_alone_moves_a_session(side, state, when, acts, after):
    """Not a moment before it is due, and once."""
    session = at_state(side, state)

    assert session.next_at == when
    assert session.due(when - 0.001) == ()
    assert session.due(when) == acts
    assert session.state is after
    assert session.due(when) == ()


@pytest.mark.parametrize(
    ("side", "after_s", "acts"),
    [
        (Side.SERVER, limits.session_idle_s, (Act.CUT,)),
        (Side.CLIENT, limits.silence_s, (Act.CUT, Act.FAIL_PENDING)),
    ],
)
def test_silence_is_counted_from_the_last_that_was_heard(side, after_s, acts):
    """Pulses of its own do not count; what was heard does, in both ways of telling it."""
    session = at_state(side, State.OPEN)
    session.on(Event.HEARD, 5.0)
    session.heard(10.0)
    while session.next_at is not None and session.next_at < 10.0 + after_s:
        assert session.due(session.next_at) == (Act.PULSE,)

    assert session.due(10.0 + after_s) == acts
    assert session.state is State.LOST


def test_other_times_than_the_usual_ones():
    """A shell may set any of the figures; the others stay."""
    session = Session(Side.CLIENT, 0.0, times={Event.PULSE_DUE: 5.0})
    session.on(Event.CONNECTED, 0.0)

    assert session.due(5.0) == (Act.PULSE,)
    assert session.due(limits.silence_s) == (Act.CUT, Act.FAIL_PENDING)


def test_a_second_connection_replaces_the_first_and_starts_the_clocks_anew():
    """The server drops the older one and waits as long for the new one (9.1)."""
    session = at_state(Side.SERVER, State.OPEN)

    assert session.on(Event.CONNECTED, 80.0) == (Act.REPLACE, Act.RESUME)
    assert session.due(limits.session_idle_s) == ()
    assert session.next_at == 80.0 + limits.session_ping_s


class Line:
    """One connection between both ends, which may break, or swallow everything without a word."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.up = True


class SessionPair:
    """Both ends back to back: a pretend line, a pretend clock, and shells of a few lines each.

    Attributes:
        now: the time in seconds.
        client: the client's end.
        servers: every session that the server has made.
        hole: whether everything sent is lost without a word.
        subscribed: how often the client subscribed.
    """

    RETRY_S = 2.0
    CONNECT_S = 10.0

    def __init__(self) -> None:
        self.now = 0.0
        self.hole = False
        self.servers: list[Session] = []
        self.subscribed = 0
        self._line: Line | None = None
        self._count = itertools.count()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self.client = Session(Side.CLIENT, 0.0)
        self._connect()

    # -- what happens to it

    def wait(self, seconds: float) -> None:
        """Let time pass, everything that is due in its order."""
        end = self.now + seconds
        while True:
            ends = [self.client, *self.servers]
            due = [(end_.next_at, n) for n, end_ in enumerate(ends) if end_.next_at is not None]
            at, n = min(due, default=(end + 1, 0))
            if self._later and self._later[0][0] <= min(at, end):
                self.now, _, run = heapq.heappop(self._later)
                run()
            elif at <= end:
                self.now = max(self.now, at)
                self._do(ends[n], ends[n].due(self.now, retry_s=self.RETRY_S))
            else:
                break
        self.now = end

    def cut(self) -> None:
        """Break the connection; each end hears of it unless everything is swallowed."""
        line, self._line = self._line, None
        if line is not None and line.up:
            line.up = False
            self._tell(self.client, Event.BROKEN, line)
            self._tell(line.session, Event.BROKEN, line)

    def end(self, side: Side) -> None:
        """Close in order from one side: a close frame goes to the other."""
        line = self._line
        near, far = self.client, line.session if line else None
        if side is Side.SERVER:
            near, far = far, near
        if near is not None:
            self._do(near, near.on(Event.ENDED, self.now))
        if line is not None and line.up and far is not None:
            self._tell(far, Event.ENDED, line)
            line.up = False
        self._line = None

    def come_back(self) -> None:
        """A second handshake on the same session, as other clients do."""
        if self._line is not None and not self.hole:
            session = self._line.session
            self._do(session, session.on(Event.CONNECTED, self.now))

    # -- the shells

    def _do(self, end: Session, acts: tuple[Act, ...]) -> None:
        for act in acts:
            if act is Act.CONNECT:
                self._connect()
            elif act is Act.PULSE:
                self._pulse(end)
            elif act is Act.CUT:
                self.cut()
            elif act is Act.SUBSCRIBE:
                self.subscribed += 1

    def _connect(self) -> None:
        if self.hole:
            self._after(self.CONNECT_S, self._not_connected)
            return
        session = Session(Side.SERVER, self.now)
        self.servers.append(session)
        self._after(0.01, lambda: self._connected(session))

    def _not_connected(self) -> None:
        self._do(self.client, self.client.on(Event.BROKEN, self.now, retry_s=self.RETRY_S))

    def _connected(self, session: Session) -> None:
        if self.client.state is not State.NEW:
            return
        if self.hole:
            self._not_connected()
            return
        self._line = Line(session)
        self._do(session, session.on(Event.CONNECTED, self.now))
        self._do(self.client, self.client.on(Event.CONNECTED, self.now))

    def _pulse(self, end: Session) -> None:
        line = self._line
        if line is None or end not in (self.client, line.session):
            return
        self._tell(line.session if end is self.client else self.client, Event.HEARD, line)
        if end is line.session:  # a ping, which is answered
            self._tell(end, Event.HEARD, line)

    def _tell(self, end: Session, event: Event, line: Line) -> None:
        if self.hole:
            return

        def arrive() -> None:
            if event is Event.HEARD and not line.up:
                return
            self._do(end, end.on(event, self.now, retry_s=self.RETRY_S))

        self._after(0.01, arrive)

    def _after(self, seconds: float, run: Callable[[], None]) -> None:
        heapq.heappush(self._later, (self.now + seconds, next(self._count), run))


LONGEST_S = limits.session_idle_s + limits.session_resume_s + limits.session_unused_s
"""After this long on a good line nothing is left of any earlier fault."""

STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.005, 0.02, 1.0, 9.0, 29.0, 61.0, 91.0, 200.0])),
    st.sampled_from([("cut",), ("come_back",), ("hole", True), ("hole", False)]),
)


@given(st.lists(STEPS, max_size=12), st.sampled_from([None, Side.CLIENT, Side.SERVER]))
@example([("hole", True), ("wait", 61.0), ("hole", False)], None)
@example([("wait", 1.0), ("hole", True)], Side.CLIENT)
@example([("wait", 1.0), ("hole", True), ("cut",)], Side.SERVER)
def test_both_ends_come_to_rest_in_states_that_fit(steps, closes):
    """Whatever happens to the line: open and open, or closed and closed; nothing is left over."""
    pair = SessionPair()
    for name, *values in steps:
        if name == "hole":
            pair.hole = values[0]
        else:
            getattr(pair, name)(*values)
    if closes is not None:
        pair.end(closes)
    pair.hole = False
    pair.wait(LONGEST_S)
    if closes is Side.SERVER and pair.client.state is not State.CLOSED:
        pair.wait(LONGEST_S)  # nobody heard that end: it connected again

    states = [session.state for session in pair.servers]
    if pair.client.state is State.CLOSED:
        assert set(states) <= {State.CLOSED}
    else:
        assert closes is not Side.CLIENT
        assert pair.client.state is State.OPEN
        assert [state for state in states if state is not State.CLOSED] == [State.OPEN]
        assert pair.subscribed > 0


def test_a_good_line_stays_open_for_ever():
    """Heartbeats and pings keep both ends from giving up, and one session does for all."""
    pair = SessionPair()
    pair.wait(86_400.0)

    assert (pair.client.state, len(pair.servers), pair.subscribed) == (State.OPEN, 1, 1)


def test_a_line_that_swallows_everything_is_noticed_within_the_bound():
    """The client gives up after its silence and comes back on a new session."""
    pair = SessionPair()
    pair.wait(1.0)
    pair.hole = True
    pair.wait(limits.silence_s + 1.0)

    assert pair.client.state in (State.LOST, State.NEW)
    pair.hole = False
    pair.wait(SessionPair.RETRY_S + SessionPair.CONNECT_S + 1.0)
    assert (pair.client.state, pair.subscribed) == (State.OPEN, 2)
