"""The session's state diagram, drawn from the tables of ``flowkit/protocol/session.py``.

The states and what leads from one to the other as a picture, and the whole table with what is done
and what time brings. Only the places of the four boxes are said here; every arrow and every word on
it is from the tables.
"""

from html import escape

from flowkit.protocol.session import TABLE, TIMERS, State

_PLACES = {
    State.NEW: (70, 120),
    State.OPEN: (330, 120),
    State.LOST: (590, 120),
    State.CLOSED: (330, 270),
}
_HALF_WIDTH, _HALF_HEIGHT = 48, 20
_SINCE = {
    "entered": "in this state",
    "heard": "since anything was heard",
    "pulsed": "since the last one",
}


def arrows(side):
    """(from, to) to the names of the events that lead there, in the order of the table."""
    found = {}
    for (state, event), (after, _) in TABLE[side].items():
        found.setdefault((state, after), []).append(event.value)
    return found


def _control(start, end):
    """Where an arrow bends to, beside the straight line: two ways do not cover each other."""
    (x1, y1), (x2, y2) = _PLACES[start], _PLACES[end]
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    away = 50 if length < 400 else 200 if x2 > x1 else 380
    return (x1 + x2) / 2 + away * (y2 - y1) / length, (y1 + y2) / 2 - away * (x2 - x1) / length


def _edge(place, towards):
    """Where a line from the middle of a box to a point leaves the box."""
    (x, y), (tx, ty) = place, towards
    dx, dy = tx - x, ty - y
    scale = min(_HALF_WIDTH / abs(dx) if dx else 9e9, _HALF_HEIGHT / abs(dy) if dy else 9e9)
    return x + dx * scale, y + dy * scale


def _arrow(start, end, events):
    """One arrow with its words; a loop for an event that changes nothing."""
    words = ", ".join(events)
    x, y = _PLACES[start]
    anchor = "middle"
    if start is end:
        path = f"M{x - 20},{y - 20} C{x - 40},{y - 62} {x + 40},{y - 62} {x + 20},{y - 20}"
        at = (x, y - 56)
    else:
        cx, cy = _control(start, end)
        (ax, ay), (bx, by) = _edge((x, y), (cx, cy)), _edge(_PLACES[end], (cx, cy))
        path = f"M{ax:.0f},{ay:.0f} Q{cx:.0f},{cy:.0f} {bx:.0f},{by:.0f}"
        at = ((ax + 2 * cx + bx) / 4, (ay + 2 * cy + by) / 4 - 6)
        if end is State.CLOSED:
            anchor, aside = ("end", -8) if start is State.LOST else ("start", 8)
            at = (at[0] + aside, at[1])
    return (
        f'<g class="arrow" data-from="{start.value}" data-to="{end.value}">'
        f'<path d="{path}" fill="none" stroke="currentColor" marker-end="url(#session-tip)"/>'
        f'<text x="{at[0]:.0f}" y="{at[1]:.0f}" text-anchor="{anchor}">{escape(words)}</text></g>'
    )


def drawing(side):
    """The picture as SVG."""
    boxes = "".join(
        f'<g class="state"><rect x="{x - _HALF_WIDTH}" y="{y - _HALF_HEIGHT}" rx="6" '
        f'width="{2 * _HALF_WIDTH}" height="{2 * _HALF_HEIGHT}" fill="none" '
        f'stroke="currentColor"/><text x="{x}" y="{y + 5}" text-anchor="middle">{state.value}'
        "</text></g>"
        for state, (x, y) in _PLACES.items()
    )
    lines = "".join(_arrow(*ends, events) for ends, events in arrows(side).items())
    return (
        f'<svg viewBox="0 -15 660 360" role="img" aria-label="states of the {side.value}" '
        'font-size="13" fill="currentColor" style="max-width: 44rem">'
        '<defs><marker id="session-tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0,0 L10,5 L0,10 z" fill="currentColor"/>'
        f"</marker></defs>{boxes}{lines}</svg>"
    )


def rows(side):
    """(state, event, next state, what is done, when time brings it) of each row of the table."""
    for (state, event), (after, acts) in TABLE[side].items():
        timers = [timer for timer in TIMERS[side][state] if timer.event is event]
        when = "".join(
            f"after {'the back-off' if timer.after_s is None else f'{timer.after_s:g} s'} "
            f"{_SINCE[timer.since]}"
            for timer in timers
        )
        yield state.value, event.value, after.value, ", ".join(act.value for act in acts), when
