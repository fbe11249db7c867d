"""Devices and tasks: protocol 1.11, 1.12, 7, 11."""

from __future__ import annotations

from tests.scenarios.finds import Sample, crud
from tests.scenarios.scenario import ANYTHING, Given, flow

SEEN = {
    "status": "UNSEEN",
    "timeSinceLastSeen": -1,
    "tokenId": "<first.tokenId>",
    "desired": {},
    "desiredVersion": 0,
    "reported": {},
    "reportedVersion": 0,
    "tags": {},
    "generation": ANYTHING,
}
FLOWS = tuple(
    Given(name, "/flow", {"path": f"/nora/bench/{name}"})
    for name in ("default", "commands", "reports", "properties")
)
DEVICE = Sample(
    kind="device",
    route="device",
    given=FLOWS,
    body={"path": "/nora/bench", "displayName": "Bench", "status": "new"},
    second={"path": "/nora/bench"},
    shown={"path": "/nora/bench", "displayName": "Bench", **SEEN, "status": "new"},
    second_shown={"path": "/nora/bench", **SEEN, "tokenId": "<second.tokenId>"},
    passing="displayName == 'Bench'",
    change={"displayName": "Third bench"},
    changed_shown={"displayName": "Third bench"},
    member="displayName",
    references={"<first.tokenId>": ANYTHING},
    second_references={"<second.tokenId>": ANYTHING},
    sort="displayName",
    made=(
        "token made: <first.tokenId>",
        "secret made: <first.tokenId>",
        "inbox of nora: CREATE TOKEN <first.tokenId>",
    ),
    removed=(
        "token removed: <first.tokenId>",
        "secret removed: <first.tokenId>",
        "inbox of nora: DELETE TOKEN <first.tokenId>",
    ),
    inbox="DEVICE",
)

SINK = flow("sink", "/nora/sink")
RUNS = {"disabled": True, "description": "first", "destination": "/nora/sink"}
REPORTS = {"reportFlowId": "<first.reportFlowId>", "reportPath": "<first.reportPath>"}
SECOND_REPORTS = {"reportFlowId": "<second.reportFlowId>", "reportPath": "<second.reportPath>"}
SET = {"nextRun": ANYTHING, "lastRun": ANYTHING, "runCt": 0, "periodicity": 3_600_000}
API_TASK = Sample(
    kind="api task",
    route="api-task",
    given=(SINK,),
    body={**RUNS, "js": "function () { return null; }"},
    second={"destination": "/nora/sink", "js": "function () {}", "disabled": True},
    shown={**RUNS, "js": "function () { return null; }", **SET, **REPORTS},
    second_shown={
        "destination": "/nora/sink",
        "js": "function () {}",
        "disabled": True,
        **SET,
        **SECOND_REPORTS,
    },
    passing="description == 'first'",
    change={"description": "again"},
    changed_shown={"description": "again"},
    inbox="API_TASK",
    references={"<sink>": ANYTHING, "<first.reportFlowId>": ANYTHING},
    second_references={"<second.reportFlowId>": ANYTHING},
    made=("flow made: <first.reportFlowId>",),
    removed=("flow removed: <first.reportFlowId>",),
)
FEED = "https://news.example.org/feed.xml"
RSS_TASK = Sample(
    kind="rss task",
    route="rss",
    given=(SINK,),
    body={**RUNS, "url": FEED},
    second={"destination": "/nora/sink", "url": FEED, "disabled": True},
    shown={**RUNS, "url": FEED, **SET, **REPORTS},
    second_shown={
        "destination": "/nora/sink",
        "url": FEED,
        "disabled": True,
        **SET,
        **SECOND_REPORTS,
    },
    passing="description == 'first'",
    change={"description": "again"},
    changed_shown={"description": "again"},
    inbox="RSS_TASK",
    references={"<sink>": ANYTHING, "<first.reportFlowId>": ANYTHING},
    second_references={"<second.reportFlowId>": ANYTHING},
    made=("flow made: <first.reportFlowId>",),
    removed=("flow removed: <first.reportFlowId>",),
)
BROKER = {"uri": "tcp://broker.example.org:1883", "topic": "a/b"}
MQTT_TASK = Sample(
    kind="mqtt task",
    route="mqtt",
    given=(SINK,),
    body={**RUNS, **BROKER},
    second={"destination": "/nora/sink", **BROKER, "disabled": True},
    shown={**RUNS, **BROKER, **REPORTS},
    second_shown={"destination": "/nora/sink", **BROKER, "disabled": True, **SECOND_REPORTS},
    passing="description == 'first'",
    change={"description": "again"},
    changed_shown={"description": "again"},
    inbox="MQTT_TASK",
    references={"<sink>": ANYTHING, "<first.reportFlowId>": ANYTHING},
    second_references={"<second.reportFlowId>": ANYTHING},
    made=("flow made: <first.reportFlowId>",),
    removed=("flow removed: <first.reportFlowId>",),
)

DEVICES = tuple(crud(DEVICE))
"""Scenarios of devices."""

TASKS = (*crud(API_TASK), *crud(RSS_TASK), *crud(MQTT_TASK))
"""Scenarios of tasks and connections."""
