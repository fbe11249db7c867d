"""Scenarios: a request, what stands before it, its answer, and the complete list of its effects.

A scenario is a value that reads as documentation. Texts of the form ``<name>`` are placeholders:
what ``given`` made is bound to its id (``<field>``) and to its members (``<field.path>``); a name
that nothing has bound yet is bound by the answer, and means the same in the effects.

An effect is one line. ``running.py`` takes everything that the store holds before and after, puts
the difference into such lines and compares them exactly: what is not stated must not happen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowkit.server.routes import Route, resolve

__all__ = [
    "ANYTHING",
    "Given",
    "Scenario",
    "drop",
    "exercised",
    "flow",
    "made",
    "matched",
    "pushed",
]

ANYTHING: Any = ...
"""Stands in an answer for what a scenario does not speak of."""

_NAME = re.compile(r"<([\w.]+)>")


@dataclass(frozen=True, slots=True)
class Given:
    """Something that stands before: made by a request of its own, a second after what came before.

    Attributes:
        name: what its id is called from then on.
        target: where it is made.
        body: what is sent.
        who: who makes it.
        method: how.
        secret: another credential than the master token, as in a scenario.
    """

    name: str
    target: str
    body: Any
    who: str = "nora"
    method: str = "POST"
    secret: str | None = None


def made(name: str, route: str, who: str = "nora", **members: Any) -> Given:
    """An object of any resource."""
    return Given(name, f"/{route}", members, who)


def flow(name: str, path: str, who: str = "nora", **members: Any) -> Given:
    """A flow."""
    return made(name, "flow", who, path=path, **members)


def drop(name: str, in_flow: str, elems: Mapping[str, Any], **members: Any) -> Given:
    """A drop in the flow of that name."""
    return Given(name, f"/drop/<{in_flow}>", {"elems": dict(elems), **members})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One request and everything that it does.

    Attributes:
        name: a sentence about what is true.
        given: what stands before.
        method, target: the request; the target stands below version and account.
        params: query parameters.
        body: JSON, or bytes as they are.
        headers: further headers.
        who: the account that asks, with its master token.
        secret: another credential than the master token; a text, may be a placeholder.
        version: of the protocol.
        status: of the answer.
        answer: its body.
        errors: ``head.errors``.
        notes: ``head.messages`` behind the known first sentence.
        references: ``head.references``.
        head: further members of the head.
        effects: every change of the store, one line each, in any order. A line about an inbox
            stands for the notification and its two counts, those of every new drop.
        pushes: what readers of the flows that stand before are told, system flows apart, one line
            each, where that is not just the rows that begin and end; None: it is.
        is_indented: whether the answer is laid out over lines.
        is_counted: whether the call itself is counted (10); not where the credential is refused.
    """

    name: str
    given: tuple[Given, ...] = ()
    method: str
    target: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    who: str = "nora"
    secret: str | None = None
    version: str = "v4.0"
    status: int = 200
    answer: Any = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    references: Any = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)
    effects: tuple[str, ...] = ()
    pushes: tuple[str, ...] | None = None
    is_indented: bool = False
    is_counted: bool = True


def pushed(scenario: Scenario) -> list[str]:
    """What readers are told: each row that begins, each that ends without another, each end."""
    if scenario.pushes is not None:
        return list(scenario.pushes)
    gone = [line for line in scenario.effects if re.match(r"flow removed: <\w+>", line)]
    if gone:
        return [line.replace("flow removed:", "end of") + ": deleted" for line in gone]
    begun = [line for line in scenario.effects if line.startswith("row begun in ")]
    ended = [line for line in scenario.effects if _ENDED.match(line)]
    return [re.sub("row (begun|ended)", "push", line) for line in (*begun, *ended)]


_ENDED = re.compile(r"row ended in \S+: (delete|evict) ")


def exercised(scenario: Scenario) -> tuple[Route, frozenset[str]]:
    """The row of the route table that a scenario's request meets, and the parameters it carries.

    Both come from the request itself, so that a table of them cannot say what is not so.
    """
    override = scenario.headers.get("X-HTTP-Method-Override")
    segments = (scenario.version, scenario.who, *scenario.target.strip("/").split("/"))
    route = resolve(override or scenario.method, segments).route
    carried = set(scenario.params)
    if override == "GET" and isinstance(scenario.body, dict):
        carried |= set(scenario.body)
    return route, frozenset(carried & route.known)


def filled(value: Any, names: Mapping[str, Any]) -> Any:
    """*value* with its placeholders replaced; every one of them must be bound."""
    if isinstance(value, str):
        whole = _NAME.fullmatch(value)
        if whole:
            return names[whole[1]]
        return _NAME.sub(lambda found: str(names[found[1]]), value)
    if isinstance(value, dict):
        return {filled(key, names): filled(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part, names) for part in value]
    return value


def matched(expected: Any, found: Any, names: dict[str, Any], where: str = "body") -> None:
    """Assert that *found* is as *expected*, binding names that are new."""
    if expected is ANYTHING:
        return
    if isinstance(expected, str):
        whole = _NAME.fullmatch(expected)
        if whole and whole[1] not in names:
            names[whole[1]] = found
            return
        expected = filled(expected, names)
    if isinstance(expected, Mapping):
        assert isinstance(found, dict), f"{where} is {found!r}"
        wanted = {filled(key, names): part for key, part in expected.items()}
        assert sorted(found) == sorted(wanted), f"{where} has {sorted(found)}"
        for key, part in wanted.items():
            matched(part, found[key], names, f"{where}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert isinstance(found, list), f"{where} is {found!r}"
        assert len(found) == len(expected), f"{where} has {len(found)} entries: {found!r}"
        for at, (part, one) in enumerate(zip(expected, found, strict=True)):
            matched(part, one, names, f"{where}.{at}")
    else:
        assert found == expected, f"{where} is {found!r}, not {expected!r}"
        assert isinstance(found, bool) is isinstance(expected, bool), where
