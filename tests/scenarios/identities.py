"""Identities and batches: protocol 1.8, 3.5."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.scenarios.finds import finds, only
from tests.scenarios.scenario import ANYTHING, Scenario, flow

OWN = {
    "id": "<nora>",
    "name": "nora",
    "creationDate": "<nora.creationDate>",
    "creatorId": "<nora.creatorId>",
}
BOB = {"id": "<bob>", "name": "bob"}
EDIT = {"lastEditDate": "<now>", "lastEditorId": "<nora>"}


def _reads() -> Iterator[Scenario]:
    find = Scenario(name="", method="GET", target="/identity")
    yield from finds(
        "one's own identity among identities",
        find,
        [OWN],
        passing=("name == 'bob'", [BOB]),
        references={},
        name="name",
    )
    read = Scenario(
        name="one's own identity is read", method="GET", target="/identity/<nora>", answer=OWN
    )
    other = replace(
        read,
        name="of another's identity id and name are shown",
        target="/identity/<bob>",
        answer=BOB,
    )
    many = Scenario(
        name="many identities are read",
        method="MGET",
        target="/identity",
        body=["<nora>", "<bob>", "i" + "0" * 24],
        answer={"<nora>": OWN, "<bob>": BOB},
    )
    yield other
    for base, part in (
        (read, only(OWN, "name")),
        (many, {"<nora>": only(OWN, "name"), "<bob>": only(BOB, "name")}),
    ):
        yield base
        yield replace(base, name=f"{base.name}: in part", params={"only": "name"}, answer=part)
        yield replace(base, name=f"{base.name}: with what it refers to", params={"refs": "1"})
        yield replace(base, name=f"{base.name}: indented", params={"pretty": "1"}, is_indented=True)


def _writes() -> Iterator[Scenario]:
    after = {**OWN, "firstName": "Nora", **EDIT}
    changed = Scenario(
        name="one's own identity is changed",
        method="PUT",
        target="/identity/<nora>",
        body={"firstName": "Nora"},
        answer=after,
        effects=("identity changed: <nora> (first_name, last_edit_date, last_editor_id)",),
    )
    member = replace(
        changed,
        name="one member of one's own identity is changed",
        target="/identity/<nora>/firstName",
        answer={"firstName": "Nora"},
    )
    many = replace(
        changed,
        name="many identities are changed",
        method="MPUT",
        target="/identity",
        body={"<nora>": {"firstName": "Nora"}},
        answer={"<nora>": after},
    )
    for base in (changed, member, many):
        yield base
        yield replace(base, name=f"{base.name}: indented", params={"pretty": "1"}, is_indented=True)
    made = Scenario(
        name="an account is not made by its users",
        method="POST",
        target="/identity",
        body={"firstName": "Emil"},
        status=403,
        errors=("Accounts are made and removed by the server's administrator only",),
    )
    gone = replace(
        made,
        name="an account is not deleted by its users",
        method="DELETE",
        target="/identity/<nora>",
        body=None,
        errors=("Accounts are made and removed by the server's administrator only",),
    )
    for base in (made, gone):
        yield base
        yield replace(base, name=f"{base.name}: indented", params={"pretty": "1"}, is_indented=True)
    yield replace(
        changed,
        name="another's identity is not changed",
        target="/identity/<bob>",
        status=403,
        answer={},
        errors=("The Identity belongs to another account",),
        effects=(),
    )


def _batches() -> Iterator[Scenario]:
    batch = Scenario(
        name="each read of a batch has an answer of its own",
        given=(flow("field", "/nora/field"),),
        method="POST",
        target="/batch",
        body=[
            {
                "method": "GET",
                "path": "/flow",
                "params": {"only": "path", "filter": "path == '/nora/field'"},
            },
            {"method": "MGET", "path": "/drop/<field>", "body": []},
            {"method": "DELETE", "path": "/flow/<field>"},
        ],
        answer=[
            {"head": ANYTHING, "body": [{"id": "<field>", "path": "/nora/field"}]},
            {"head": ANYTHING, "body": {}},
            {
                "head": {
                    "status": 400,
                    "ok": False,
                    "messages": [],
                    "errors": ["method: must be GET or MGET"],
                    "references": {},
                },
                "body": {},
            },
        ],
    )
    yield batch
    yield replace(batch, name=f"{batch.name}: indented", params={"pretty": "1"}, is_indented=True)


TABLE = (*_reads(), *_writes(), *_batches())
"""Scenarios of identities and batches."""
