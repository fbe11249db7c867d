"""Runs a scenario on a platform of its own and compares answer and effects with what it states."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from flowkit.protocol.envelope import CREATED, PROCESSED
from flowkit.protocol.resources import is_id
from flowkit.protocol.subscribing import KINDS, Subscribe
from flowkit.server.live.frames import payload
from tests.scenarios.scenario import Scenario, filled, matched, pushed
from tests.scenarios.snapshot import differences, snapshot
from tests.server.visitor import Answered, Visitor, visiting

__all__ = ["run"]


def run(scenario: Scenario, folder: Path) -> Answered:
    """Make what is given, ask, compare; returns the answer.

    Raises:
        AssertionError: the answer or an effect is another than stated.
    """
    with visiting(folder) as (nora, bob):
        nora.app.router.close()  # what Tracks do after the answer is another matter: test_router.py
        visitors = {"nora": nora, "bob": bob}
        names = _prepared(scenario, visitors)
        file = folder / "flowkit.sqlite"
        listening = Listening(nora, bob)
        _settle(nora)
        before = snapshot(file)
        answered = _ask(scenario, visitors[scenario.who], names)
        _check_answer(scenario, answered, names)
        _settle(nora)
        called = _namer(names)
        found = differences(before, snapshot(file), called)
        heard = listening.heard(called)
    stated = _with_notifications(scenario.effects)
    if scenario.is_counted:
        stated.append(f"apiCallByIdentity of <{scenario.who}> +1")
    stated = [_in_names(line, names) for line in stated]
    told = sorted(_in_names(line, names) for line in pushed(scenario))
    assert heard == told, f"readers are told {heard}, stated is {told}"
    missing, unstated = Counter(stated) - Counter(found), Counter(found) - Counter(stated)
    assert not missing, f"stated, but did not happen: {sorted(missing.elements())}"
    assert not unstated, f"happened, but is not stated: {sorted(unstated.elements())}"
    return answered


class Listening:
    """Readers of every change of every flow that there is."""

    def __init__(self, *visitors: Visitor) -> None:
        self._live = visitors[0].app.live
        self._sessions = [
            self._live.session(self._live.open_session(each.account, each.token or ""))
            for each in visitors
        ]
        for session, visitor in zip(self._sessions, visitors, strict=True):
            for flow in visitor.ask("GET", "/flow?limit=1000").body:
                if flow["path"].startswith(f"/{visitor.account}/"):
                    ask = Subscribe(path=flow["path"], sub=flow["path"], changes=KINDS)
                    self._live.loop.call(session.subscribe, ask, None)

    def heard(self, called: Callable[[Any], str]) -> list[str]:
        """What they have been told by now, one line for each message."""
        self._live.loop.call(bool)  # the commits of the request were handed to it before
        lines = []
        for session in self._sessions:
            for data in session.pushes.take(2**30):
                message = json.loads(payload(data))
                if message["type"] == "message":
                    said = f"{message['change']} {called(message['value']['id'])}"
                    lines.append(f"push in {message['sub']}: {said}")
                elif message["type"] == "end":
                    lines.append(f"end of {called(message['resource'])}: {message['reason']}")
        return sorted(lines)


def _prepared(scenario: Scenario, visitors: dict[str, Visitor]) -> dict[str, Any]:
    """Make what is given; what is called how."""
    clock = visitors["nora"].clock
    names: dict[str, Any] = {}
    for name, visitor in visitors.items():
        (own,) = visitor.ask("GET", "/identity").body
        names |= {name: own["id"], **{f"{name}.{member}": own[member] for member in own}}
        names[f"{name}.secret"] = visitor.token
    for given in scenario.given:
        clock.now_ms += 1_000
        asker = visitors[given.who]
        if given.secret is not None:
            asker = replace(asker, token=filled(given.secret, names))
        asked = asker.ask(given.method, filled(given.target, names), filled(given.body, names))
        assert asked.status in (200, 201), (given, asked.errors)
        if isinstance(asked.body, list) and given.method == "POST":
            continue  # an array create; nothing of it is spoken of by name
        body = asked.body[0] if isinstance(asked.body, list) else asked.body
        names[given.name] = body.get("id")
        names |= {f"{given.name}.{member}": value for member, value in body.items()}
    clock.now_ms += 1_000
    names["now"] = clock.now_ms
    return names


def _ask(scenario: Scenario, visitor: Visitor, names: dict[str, Any]) -> Answered:
    target = filled(scenario.target, names)
    params = filled(dict(scenario.params), names)
    if params:
        target += "?" + urlencode(params, quote_via=quote)
    asker = visitor.as_version(scenario.version)
    if scenario.secret is not None:
        asker.token = filled(scenario.secret, names)
    body = scenario.body
    if body is None:
        body = b""
    elif not isinstance(body, bytes):
        body = filled(body, names)
    headers = {name.lower(): filled(text, names) for name, text in scenario.headers.items()}
    return asker.ask(scenario.method, target, body, headers=headers)


def _check_answer(scenario: Scenario, answered: Answered, names: dict[str, Any]) -> None:
    assert answered.status == scenario.status, (answered.status, answered.errors, answered.body)
    matched(scenario.answer, answered.body, names)
    first = [CREATED if scenario.status == 201 else PROCESSED] if answered.status < 300 else []
    expected = {
        "status": scenario.status,
        "ok": scenario.status < 300,
        "messages": [*first, *scenario.notes],
        "errors": list(scenario.errors),
        "references": scenario.references,
        **scenario.head,
    }
    matched(expected, answered.head, names, "head")
    is_indented = answered.response.body.startswith(b"{\n")
    assert is_indented is scenario.is_indented, answered.response.body[:20]


def _settle(visitor: Visitor) -> None:
    """Wait until what was counted beside the writes is written: a commit takes it along."""
    visitor.app.store.write(lambda _writer: None)


def _with_notifications(effects: Sequence[str]) -> list[str]:
    """The effects, and for each notification that it is counted as the drop that it is."""
    accounts = Counter(
        line.split()[2].rstrip(":") for line in effects if line.startswith("inbox of ")
    )
    counts = [
        line
        for account, times in accounts.items()
        for line in (
            f"flowDropAdded of the inbox of {account} +{times}",
            f"dropCreatedBy of <{account}> +{times}",
        )
    ]
    return [*effects, *counts]


def _in_names(line: str, names: dict[str, Any]) -> str:
    """An effect in which every object has its name; a name that is no placeholder is a slip."""
    unknown = [each for each in re.findall(r"<([\w.]+)>", line) if each not in names]
    assert not unknown, f"{line!r} names {unknown}, which nothing has bound"
    return line


def _is_told(name: str, value: Any) -> bool:
    """Whether a name stands for a thing: an object, or one that a member of an object names."""
    return "." not in name or is_id(value)


def _namer(names: dict[str, Any]) -> Any:
    known = {str(value): name for name, value in reversed(names.items()) if _is_told(name, value)}

    def called(found: Any) -> str:
        if found is None:
            return "nothing"
        return f"<{known[found]}>" if found in known else str(found)

    return called
