"""Scenarios that are alike for every resource: finds with each parameter, and the CRUD verbs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.scenarios.scenario import ANYTHING, Given, Scenario

__all__ = ["Sample", "crud", "finds", "only"]


def only(doc: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """*doc* as ``only`` shows it."""
    return {name: doc[name] for name in doc if name in ("id", *names)}


def finds(
    what: str,
    base: Scenario,
    listed: Sequence[Mapping[str, Any]],
    *,
    passing: tuple[str, Sequence[Mapping[str, Any]]],
    references: Mapping[str, Any],
    name: str = "creationDate",
    sort: str = "description",
) -> Iterator[Scenario]:
    """A find with each of its parameters.

    Args:
        what: what is found, in sentences.
        base: the find without parameters.
        listed: what there is, newest first.
        passing: a filter, and what passes it.
        references: what ``refs`` shows.
        name: a member to show alone.
        sort: a member that only the oldest has: sorted by it, it comes first.
    """
    docs = list(listed)
    text, passed = passing

    def asked(
        said: str, answer: Any, head: Mapping[str, Any] | None = None, **params: str
    ) -> Scenario:
        return replace(
            base,
            name=f"{what} {said}",
            params={**base.params, **params},
            answer=answer,
            head={**base.head, **(head or {})},
        )

    yield asked("are found, the newest first", docs)
    yield asked("that pass a filter are found", list(passed), filter=text)
    yield asked("are found up to a limit", docs[:1], limit="1")
    yield asked("are found from the second on", docs[1:], start="1")
    yield asked("are found from the second on by the other name", docs[1:], skip="1")
    yield asked("are sorted by a member", docs[::-1], sort=sort)
    yield asked("are found, the oldest first", docs[::-1], order="asc")
    yield asked("are shown in part", [only(doc, name) for doc in docs], only=name)
    yield replace(asked("are shown with what they refer to", docs, refs="1"), references=references)
    yield asked("are found with a plan", docs, {"plan": ANYTHING}, explain="1")
    yield replace(asked("are found and shown indented", docs, pretty="1"), is_indented=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Two objects of a resource, and what the verbs do with them.

    Attributes:
        kind: the resource in sentences.
        route: its segment.
        given: what stands before both.
        body, second: bodies that create them.
        shown, second_shown: the members answered, beside ``id``, ``creationDate``, ``creatorId``.
        passing: a filter that only the first passes.
        change: a change, and the members shown afterwards that differ from ``shown``.
        member: one member of the change.
        references: what ``refs`` shows beside the creator.
        second_references: what it shows of the second.
        sort: a member that only the first has.
        made, changed, removed: effects beside the object itself and the inbox.
        inbox: how the inbox calls its kind; None: it is not announced.
        secret: the credential that creates it, where that is not the master token.
    """

    kind: str
    route: str
    body: Mapping[str, Any]
    second: Mapping[str, Any]
    shown: Mapping[str, Any]
    second_shown: Mapping[str, Any]
    passing: str
    given: tuple[Given, ...] = ()
    change: Mapping[str, Any] = field(default_factory=dict)
    changed_shown: Mapping[str, Any] = field(default_factory=dict)
    member: str = "description"
    references: Mapping[str, Any] = field(default_factory=dict)
    second_references: Mapping[str, Any] = field(default_factory=dict)
    sort: str = "description"
    made: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    inbox: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    secret: str | None = None

    def doc(self, name: str, members: Mapping[str, Any]) -> dict[str, Any]:
        """An object as it is answered."""
        common = {
            "id": f"<{name}>",
            "creationDate": f"<{name}.creationDate>",
            "creatorId": "<nora>",
        }
        return {**common, **members}


def _told(sample: Sample, action: str, name: str) -> tuple[str, ...]:
    if sample.inbox is None:
        return ()
    return (f"inbox of nora: {action} {sample.inbox} <{name}>",)


def crud(sample: Sample) -> Iterator[Scenario]:
    """The verbs of a resource, each with each of its parameters."""
    route, kind = sample.route, sample.kind
    first, second = (
        Given("first", f"/{route}", sample.body, secret=sample.secret),
        Given("second", f"/{route}", sample.second, secret=sample.secret),
    )
    given = (*sample.given, first, second)
    shown = sample.doc("first", sample.shown)
    newer = sample.doc("second", sample.second_shown)
    references = {"<nora>": ANYTHING, **sample.references}
    all_references = {**references, **sample.second_references}
    find = Scenario(name="", given=given, method="GET", target=f"/{route}")
    yield from finds(
        f"{kind}s",
        find,
        [newer, shown],
        passing=(sample.passing, [shown]),
        references=all_references,
        sort=sample.sort,
    )
    one = f"/{route}/<first>"
    read = Scenario(name=f"a {kind} is read", given=given, method="GET", target=one, answer=shown)
    many = Scenario(
        name=f"many {kind}s are read, those that are not there are left out",
        given=given,
        method="MGET",
        target=f"/{route}",
        body=["<first>", "<second>", sample.route[0] + "0" * 24],
        answer={"<first>": shown, "<second>": newer},
    )
    some = {"<first>": only(shown, "creationDate"), "<second>": only(newer, "creationDate")}
    for base, part, told in (
        (read, only(shown, "creationDate"), references),
        (many, some, all_references),
    ):
        yield base
        yield replace(
            base, name=f"{base.name}: in part", params={"only": "creationDate"}, answer=part
        )
        yield replace(
            base,
            name=f"{base.name}: with what it refers to",
            params={"refs": "1"},
            references=told,
        )
        yield replace(base, name=f"{base.name}: indented", params={"pretty": "1"}, is_indented=True)
    yield from _writes(sample, given, shown)


def _writes(sample: Sample, given: tuple[Given, ...], shown: dict[str, Any]) -> Iterator[Scenario]:
    route, kind = sample.route, sample.kind
    one = f"/{route}/<first>"
    made = Scenario(
        name=f"a {kind} is made",
        given=(
            *sample.given,
            Given("second", f"/{route}", sample.second, secret=sample.secret),
        ),
        method="POST",
        secret=sample.secret,
        target=f"/{route}",
        body=dict(sample.body),
        status=201,
        answer={**sample.doc("new", _renamed(sample.shown)), "creationDate": "<now>"},
        effects=(
            f"{_noun(sample)} made: <new>",
            *(line.replace("<first", "<new") for line in sample.made),
            *_told(sample, "CREATE", "new"),
        ),
    )
    removed = Scenario(
        name=f"a {kind} is deleted",
        given=given,
        method="DELETE",
        target=one,
        effects=(
            f"{_noun(sample)} removed: <first>",
            *sample.removed,
            *_told(sample, "DELETE", "first"),
        ),
    )
    yield from _plain_and_indented(made, removed)
    if not sample.change:
        return
    edit = {"lastEditDate": "<now>", "lastEditorId": "<nora>"}
    after = {**shown, **sample.changed_shown, **edit}
    after = {name: value for name, value in after.items() if value is not None}

    def effects(members: Sequence[str]) -> tuple[str, ...]:
        columns = [sample.columns.get(each, each) for each in members]
        extra = ["last_edit_date", "last_editor_id"]
        if _noun(sample) not in ("flow", "identity"):
            extra += ["lastEditDate", "lastEditorId"]
        told = ", ".join(sorted([*columns, *extra]))
        return (
            f"{_noun(sample)} changed: <first> ({told})",
            *sample.changed,
            *_told(sample, "UPDATE", "first"),
        )

    changed = Scenario(
        name=f"a {kind} is changed",
        given=given,
        method="PUT",
        target=one,
        body=dict(sample.change),
        answer=after,
        effects=effects(list(sample.changed_shown)),
    )
    value = sample.change[sample.member]
    member = replace(
        changed,
        name=f"one member of a {kind} is changed",
        target=f"{one}/{sample.member}",
        body={sample.member: value},
        answer={sample.member: sample.changed_shown[sample.member]},
        effects=effects([sample.member]),
    )
    many = replace(
        changed,
        name=f"many {kind}s are changed",
        method="MPUT",
        target=f"/{route}",
        body={"<first>": dict(sample.change)},
        answer={"<first>": after},
    )
    yield from _plain_and_indented(changed, member, many)


def _renamed(shown: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of the first object, as it is shown of a new one."""
    return {
        name: value.replace("<first.", "<new.") if isinstance(value, str) else value
        for name, value in shown.items()
    }


def _plain_and_indented(*scenarios: Scenario) -> Iterator[Scenario]:
    for one in scenarios:
        yield one
        yield replace(
            one,
            name=f"{one.name}: indented",
            params={**one.params, "pretty": "1"},
            is_indented=True,
        )


def _noun(sample: Sample) -> str:
    return sample.kind.replace(" ", "_")
