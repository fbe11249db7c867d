"""The request of an aggregation, checked: what each entry of it stands for.

``read_aggregation`` tells every fault at once. A **term** is what one drop has for a name: a
member, a rule (1 or 0), a part of a date, or the distance of a rule; ``aggregate.py`` says what it
is worth for a drop.

Rules: the name of a rule goes before a member of the same name; only a final ``:asc`` or ``:desc``
of a sort is its direction; an entry that stands twice counts once.

Source: protocol 5.1 to 5.3, 4.2 (members).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flowkit import limits
from flowkit.errors import BadRequest, FilterError, FilterSyntaxError, LimitError
from flowkit.query import meaning, normal
from flowkit.query.match import predicate
from flowkit.query.nodes import Everything, Filter, Path, Within
from flowkit.query.parse import parse

__all__ = [
    "DATE_PARTS",
    "MEMBERS",
    "Aggregation",
    "Key",
    "Output",
    "Sort",
    "Term",
    "read_aggregation",
]

MEMBERS = frozenset({"output", "groupBy", "filter", "rules", "sorts"})
"""The members of a request."""

DATE_PARTS = ("year", "month", "day", "hour", "minute", "second")
"""Parts of a date, in UTC."""

_WORDS = ("sum", "avg", "min", "max", "unique", "all")
_FAULTS_MAX = 100


@dataclass(frozen=True, slots=True)
class Term:
    """What one drop has for a name.

    Attributes:
        kind: ``member``, ``rule``, ``date`` or ``distance``.
        path: the member, from the root of the drop; for ``date`` the one with the date.
        rule: the filter of a rule; the ``Within`` of a distance.
        part: the part of the date.
    """

    kind: Literal["member", "rule", "date", "distance"]
    path: Path = ()
    rule: Filter | None = None
    part: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of ``groupBy``, as it was sent, and what it stands for."""

    text: str
    term: Term


@dataclass(frozen=True, slots=True)
class Output:
    """An entry of ``output``.

    Attributes:
        text: as it was sent.
        word: ``count sum avg min max unique all``, or ``newest`` for a date part or distance.
        term: what it is computed of; None for ``count``.
    """

    text: str
    word: str
    term: Term | None = None


@dataclass(frozen=True, slots=True)
class Sort:
    """An entry of ``sorts``: the member of a row, and whether the largest comes first."""

    text: str
    is_down: bool


@dataclass(frozen=True, slots=True)
class Aggregation:
    """A checked request."""

    filter: Filter
    keys: tuple[Key, ...]
    outputs: tuple[Output, ...]
    sorts: tuple[Sort, ...]


# -- the request -----------------------------------------------------------------------------------


class _Fault(Exception):
    """What is wrong with one entry."""


def read_aggregation(body: Any) -> Aggregation:
    """The request in a decoded body.

    Raises:
        BadRequest: one sentence per fault, each beginning with the entry: ``output.2: …``.
    """
    if not isinstance(body, dict):
        raise BadRequest("body: must be an object with output and, if wanted, groupBy and the like")
    faults: list[str] = []
    condition = _read("filter", body.get("filter"), _filter, faults, Everything())
    rules = _rules(body.get("rules"), faults)
    keys: list[Key] = _entries("groupBy", body.get("groupBy"), lambda t: _key(t, rules), faults)
    if body.get("output") is None:
        faults.append("output: is required, an array of selectors")
    elif body["output"] == []:
        faults.append("output: is empty, name at least one selector")
    outputs: list[Output] = _entries(
        "output", body.get("output"), lambda t: _output(t, rules), faults
    )
    known = {text for name in ("groupBy", "output") for text in _texts(body.get(name))}
    sorts: list[Sort] = _entries("sorts", body.get("sorts"), lambda t: _sort(t, known), faults)
    if faults:
        raise BadRequest(*faults[:_FAULTS_MAX])
    return Aggregation(condition, tuple(keys), tuple(outputs), tuple(sorts))


def _texts(entries: Any) -> list[str]:
    return [each for each in entries if isinstance(each, str)] if isinstance(entries, list) else []


def _read(
    place: str, given: Any, read: Callable[[Any], Any], faults: list[str], absent: Any = None
) -> Any:
    """What *read* makes of an entry; *absent* if there is none, or none that can be used."""
    if given is None:
        return absent
    try:
        return read(given)
    except _Fault as fault:
        faults.append(f"{place}: {fault}")
        return absent


def _entries(name: str, given: Any, read: Callable[[str], Any], faults: list[str]) -> list[Any]:
    """The entries of an array, each once, in the order in which they were sent."""
    if given is None:
        return []
    if not isinstance(given, list):
        faults.append(f"{name}: must be an array of texts, not {normal.shown(given)}")
        return []
    if len(given) > limits.aggregate_selectors_max:
        most = limits.aggregate_selectors_max
        faults.append(f"{name}: has {len(given)} entries, the limit is {most}")
        return []
    read_of: dict[str, Any] = {}
    for at, text in enumerate(given):
        if not isinstance(text, str):
            faults.append(f"{name}.{at}: must be a text, not {normal.shown(text)}")
        elif text not in read_of:
            read_of[text] = _read(f"{name}.{at}", text, read, faults)
    return list(read_of.values())


def _filter(given: Any) -> Filter:
    if isinstance(given, Filter):  # a caller in this process
        return given
    if not isinstance(given, str):
        raise _Fault(f"must be a filter as a text, not {normal.shown(given)}")
    try:
        asked = parse(given)
        predicate(asked)  # a pattern that cannot be used is refused here
    except FilterSyntaxError as error:
        raise _Fault(error.summary) from None
    except (FilterError, LimitError) as error:
        raise _Fault(str(error)) from None
    return asked


def _rules(given: Any, faults: list[str]) -> dict[str, Filter]:
    """Rule name to filter; one with a fault stands for everything, so that it is told once."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        faults.append(f"rules: must be an object of names to filters, not {normal.shown(given)}")
        return {}
    if len(given) > limits.aggregate_selectors_max:
        most = limits.aggregate_selectors_max
        faults.append(f"rules: has {len(given)} entries, the limit is {most}")
        return {}
    rules: dict[str, Filter] = {}
    for name, text in given.items():
        if not name or name.startswith("$"):
            faults.append(f"rules: {normal.shown(name)} cannot be a name, $ begins a selector")
            continue
        if text is None:
            faults.append(f"rules.{name}: must be a filter as a text, not null")
        rules[name] = _read(f"rules.{name}", text, _filter, faults, Everything())
    return rules


def _key(text: str, rules: Mapping[str, Filter]) -> Key:
    found = _computed(text, rules)
    if found is not None:
        return Key(text, found)
    if text.startswith("$"):
        raise _Fault(
            f"{normal.shown(text)} is no key to group by: a member, a rule,"
            f" distance:<rule>, or one of {_dollars(DATE_PARTS)}"
        )
    return Key(text, _term(text, rules))


def _output(text: str, rules: Mapping[str, Filter]) -> Output:
    found = _computed(text, rules)
    if found is not None:
        return Output(text, "newest", found)
    word, colon, name = text.partition(":")
    if word == "$count":
        if colon:
            raise _Fault(f"$count counts Drops and takes no member, not {normal.shown(name)}")
        return Output(text, "count")
    if word[1:] not in _WORDS or word[0] != "$":
        raise _Fault(
            f"{normal.shown(text)} is no selector: $count, {_dollars(_WORDS)} with :member,"
            f" {_dollars(DATE_PARTS)}, or distance:<rule>"
        )
    if not name:
        raise _Fault(f"{word} needs a member, as in {word}:temp")
    return Output(text, word[1:], _term(name, rules))


def _dollars(words: Iterable[str]) -> str:
    return " ".join(f"${word}" for word in words)


def _computed(text: str, rules: Mapping[str, Filter]) -> Term | None:
    """A part of a date or a distance; None for anything else."""
    word, colon, name = text.partition(":")
    if word.startswith("$") and word[1:] in DATE_PARTS:
        if colon and not name:
            raise _Fault(f"{word} needs a member behind its colon, or no colon")
        path = _member(name) if colon else ("creationDate",)
        return Term("date", path=path, part=word[1:])
    if word in ("distance", "$distance") and (colon or word[0] == "$"):
        return Term("distance", rule=_place_rule(name, rules))
    return None


def _place_rule(name: str, rules: Mapping[str, Filter]) -> Within:
    if name not in rules:
        raise _Fault(f"there is no rule {normal.shown(name)} here to measure the distance of")
    places = [node for node in rules[name].walk() if isinstance(node, Within)]
    if len(places) != 1:
        raise _Fault(f"the rule {normal.shown(name)} has {len(places)} WITHIN, it needs one")
    return places[0]


def _term(name: str, rules: Mapping[str, Filter]) -> Term:
    if name in rules:
        return Term("rule", rule=rules[name])
    return Term("member", path=_member(name))


def _member(name: str) -> Path:
    try:
        return meaning.resolve(normal.dotted(name), "drop")
    except FilterError as error:
        raise _Fault(error.problem) from None


def _sort(text: str, known: set[str]) -> Sort:
    for ending, is_down in ((":asc", False), (":desc", True)):
        if text.endswith(ending) and text.removesuffix(ending) in known:
            return Sort(text.removesuffix(ending), is_down)
    if text in known:
        return Sort(text, False)
    raise _Fault(f"{normal.shown(text)} is neither in groupBy nor in output")
