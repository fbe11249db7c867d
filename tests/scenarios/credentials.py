"""Groups, Tokens and Shares: protocol 1.7, 1.9, 1.10, 8."""

from __future__ import annotations

from collections.abc import Iterator

from tests.scenarios.finds import Sample, crud
from tests.scenarios.scenario import ANYTHING, Scenario, drop, flow, made

GROUP = Sample(
    kind="group",
    route="group",
    body={"memberIds": ["<nora>", "<bob>"], "description": "all"},
    second={"memberIds": ["<bob>"], "displayName": "Bob alone"},
    shown={"memberIds": ["<nora>", "<bob>"], "description": "all"},
    second_shown={"memberIds": ["<bob>"], "displayName": "Bob alone"},
    passing="description == 'all'",
    references={"<bob>": ANYTHING},
    change={"description": "both"},
    changed_shown={"description": "both"},
    made=("<nora> is in <first>", "<bob> is in <first>"),
    removed=("<nora> is no more in <first>", "<bob> is no more in <first>"),
    inbox="GROUP",
)

READS = {"/nora/field": {"dropRead": True}}
BOTH = {"/nora": {"dropRead": True, "dropWrite": True}}
TOKEN = Sample(
    kind="token",
    route="token",
    body={"paths": READS, "description": "sensor", "duration": 60_000},
    second={"paths": BOTH},
    shown={
        "paths": READS,
        "description": "sensor",
        "duration": 60_000,
        "expiresInMs": ANYTHING,
        "issuedBy": "<nora>",
        "tokenString": ANYTHING,
    },
    second_shown={"paths": BOTH, "issuedBy": "<nora>", "tokenString": ANYTHING},
    passing="description == 'sensor'",
    made=("secret made: <first>",),
    removed=("secret removed: <first>",),
    inbox="TOKEN",
)

TO_BOB = {"issuedTo": "<bob>", "paths": READS}
SHARE = Sample(
    kind="share",
    route="share",
    body={**TO_BOB, "description": "field"},
    second={"issuedTo": "<bob>", "paths": BOTH},
    shown={**TO_BOB, "description": "field", "issuedBy": "<nora>"},
    second_shown={"issuedTo": "<bob>", "paths": BOTH, "issuedBy": "<nora>"},
    passing="description == 'field'",
    references={"<bob>": ANYTHING},
    inbox="SHARE",
    made=("inbox of bob: CREATE SHARE <first>",),
    removed=("inbox of bob: DELETE SHARE <first>",),
)

FIELD = flow("field", "/nora/field")
DEVICE = made("token", "token", paths=READS)
WRITER = made("token", "token", paths={"/nora/field": {"dropWrite": True}})
NOT_LOCATED = "The requested resource could not be located at this address."


def _uses() -> Iterator[Scenario]:
    yield Scenario(
        name="a token lists the flows under its paths alone",
        given=(flow("other", "/nora/other"), FIELD, DEVICE),
        method="GET",
        target="/flow",
        params={"only": "path"},
        secret="<token.tokenString>",
        answer=[{"id": "<field>", "path": "/nora/field"}],
    )
    yield Scenario(
        name="a token with dropRead reads drops and writes none",
        given=(FIELD, DEVICE, drop("first", "field", {"n": 1})),
        method="DELETE",
        target="/drop/<field>",
        secret="<token.tokenString>",
        status=403,
        errors=("path: this Token has no right dropWrite at /nora/field",),
    )
    yield Scenario(
        name="a token with dropWrite alone writes drops and reads none",
        given=(FIELD, WRITER),
        method="POST",
        target="/drop/<field>",
        body={"elems": {"n": 1}},
        secret="<token.tokenString>",
        status=201,
        answer={
            "id": "<new>",
            "flowId": "<field>",
            "path": "/nora/field",
            "creationDate": "<now>",
            "creatorId": "<nora>",
            "version": 0,
            "elems": {"n": 1},
        },
        effects=(
            "row begun in /nora/field: create <new>",
            "flowDropAdded of <field> +1",
            "dropCreatedBy of <nora> +1",
        ),
    )
    yield Scenario(
        name="a token sees itself and no other token",
        given=(made("other", "token", paths=BOTH), DEVICE),
        method="GET",
        target="/token",
        params={"only": "paths"},
        secret="<token.tokenString>",
        answer=[{"id": "<token>", "paths": READS}],
    )
    yield Scenario(
        name="what is shared with an account it finds among its flows' drops",
        given=(FIELD, drop("first", "field", {"n": 1}), made("share", "share", **TO_BOB)),
        method="GET",
        target="/drop",
        params={"path": "/nora/field", "only": "n"},
        who="bob",
        answer=[{"id": "<first>", "elems": {"n": 1}}],
    )
    yield Scenario(
        name="what is not shared with an account is not there for it",
        given=(FIELD, drop("first", "field", {"n": 1})),
        method="GET",
        target="/drop/<field>/<first>",
        who="bob",
        status=404,
        errors=(NOT_LOCATED,),
    )
    yield Scenario(
        name="who was issued a share sees it and cannot remove it",
        given=(FIELD, made("share", "share", **TO_BOB)),
        method="DELETE",
        target="/share/<share>",
        who="bob",
        status=403,
        errors=("The Share belongs to another account",),
    )


TABLE = (*crud(GROUP), *crud(TOKEN), *crud(SHARE), *_uses())
"""Scenarios of groups, tokens and shares."""
