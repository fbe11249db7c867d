"""Which scenario or test shows which part of the protocol: the table of ``protocol.rst``.

Routes and parameters come from the route table, what exercises them from the requests of the
scenarios themselves. A parameter counts as shown only by an answer that is no refusal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flowkit.server.routes import ROUTES, Route
from tests.scenarios import ALL
from tests.scenarios.scenario import Scenario, exercised

__all__ = ["ALONE", "NOT_YET", "REFUSED", "RULES", "UNVERSIONED_TESTS", "Row", "missing", "rows"]

REFUSED = frozenset({("POST", "identity"), ("DELETE", "identity/{id}")})
"""Routes whose only answer is a refusal (1.8)."""

NOT_YET: Mapping[str, str] = {}
"""Routes of the protocol that this version does not have, and why."""

UNVERSIONED_TESTS: Mapping[str, str] = {
    "GET /health": "tests/server/test_openapi.py::test_addresses_of_the_server_itself",
    "GET /metrics": "tests/server/test_openapi.py::test_addresses_of_the_server_itself",
    "GET /openapi.json": "tests/server/test_openapi.py::test_the_description_is_published",
    "POST /session": "tests/server/live/test_sessions.py::test_a_session_needs_a_credential",
    "GET /session/{id}/ws": (
        "tests/server/live/test_commands.py::test_every_object_has_its_commands"
    ),
    "GET /session/{id}/streaming": (
        "tests/server/live/test_polling.py::test_a_stream_carries_a_chunk_for_each_message"
    ),
    "GET /session/{id}/polling": (
        "tests/server/live/test_polling.py::test_polls_carry_replies_and_pushes"
    ),
    "POST /session/{id}/polling": (
        "tests/server/live/test_polling.py::test_polls_carry_replies_and_pushes"
    ),
}
"""The addresses outside of version and account, each with its test."""


@dataclass(slots=True)
class Row:
    """One row of the route table and what shows it.

    Attributes:
        route: the row.
        scenarios: those whose request meets it, plain ones first.
        params: parameter to the scenario that shows it.
    """

    route: Route
    scenarios: list[Scenario] = field(default_factory=list)
    params: dict[str, Scenario] = field(default_factory=dict)

    @property
    def statuses(self) -> list[int]:
        """The statuses that the scenarios show."""
        return sorted({each.status for each in self.scenarios})


ALONE = frozenset(("identity", name) for name in ("sort", "order", "limit", "refs"))
"""Where a parameter changes nothing: an account finds only itself, and refers to nothing else."""


def rows() -> list[Row]:
    """Every row of the route table, in its order, with what shows it."""
    found = {(route.method, route.pattern): Row(route) for route in ROUTES}
    for scenario in ALL:
        route, params = exercised(scenario)
        key = (route.method, route.pattern)
        found[key].scenarios.append(scenario)
        if scenario.status < 400 or key in REFUSED:
            for name in sorted(params):
                shown = found[key].params.get(name)
                if shown is None or len(scenario.params) < len(shown.params):
                    found[key].params[name] = scenario
    for row in found.values():
        row.scenarios.sort(key=lambda each: (each.status >= 400, bool(each.params)))
    return list(found.values())


def missing() -> Iterator[str]:
    """Every route and parameter that nothing shows."""
    for row in rows():
        address = f"{row.route.method} /{row.route.pattern}"
        refused = (row.route.method, row.route.pattern) in REFUSED
        if not any(each.status < 400 or refused for each in row.scenarios):
            yield address
        for name in sorted(row.route.known - set(row.params)):
            yield f"{address} ?{name}"


APP, HTTP = "tests/server/test_app.py::", "tests/server/test_http.py::"
DROP, FLOW = "tests/server/test_drop.py::", "tests/server/test_flow.py::"

RULES: tuple[tuple[str, str, str], ...] = (
    ("3.2", "Content-Type is not looked at", APP + "test_a_body_is_read_whatever_its_type_says"),
    ("3.2", "gzip, both ways", HTTP + "test_an_answer_is_packed_where_it_is_wanted_and_pays"),
    (
        "3.2",
        "X-Request-Id: a write is done once and answered again",
        APP + "test_a_repeated_request_is_answered_again_and_done_once",
    ),
    (
        "3.2",
        "X-Auth-Account must agree",
        "another account in the header than in the address is refused",
    ),
    ("3.2", "OPTIONS for browsers", APP + "test_a_preflight_is_answered_without_a_token"),
    ("3.4", "200", "a flow is read"),
    ("3.4", "201", "a flow is made"),
    ("3.4", "207", "an array of drops is created in one commit, each entry on its own"),
    ("3.4", "400", "every fault of a flow has a sentence of its own, and nothing is made"),
    ("3.4", "403", "a wrong token is refused"),
    ("3.4", "404", "a flow of another account is not there"),
    ("3.4", "405", APP + "test_a_wrong_method_is_405_and_the_right_ones_are_named"),
    ("3.4", "408", HTTP + "test_a_request_that_stops_halfway_is_answered_408"),
    ("3.4", "413", APP + "test_a_body_has_a_bound_and_an_array_a_larger_one"),
    (
        "3.4",
        "414",
        HTTP + "test_what_http_forbids_is_refused_in_the_envelope_and_the_connection_closed",
    ),
    (
        "3.4",
        "429",
        "tests/server/test_pace.py::test_beyond_the_limit_the_sentence_names_limit_and_time",
    ),
    ("3.4", "500", APP + "test_our_own_fault_is_a_500_with_a_request_id_and_no_traceback"),
    ("3.4", "503", APP + "test_a_closed_platform_says_so"),
    (
        "3.4",
        "403 only for what may be read: a public flow",
        "a public flow of another account is read but not changed",
    ),
    ("3.4", "403 for creating elsewhere", "a flow in the namespace of another account is refused"),
    (
        "3.5",
        "missing ids are left out of MGET",
        "many flows are read, those that are not there are left out",
    ),
    ("3.5", "one unknown id in MPUT changes nothing", "one unknown id among many changes nothing"),
    ("3.5", "POST with the override MGET", "a POST with the override MGET reads many"),
    ("3.5", "POST with the override MPUT", "a POST with the override MPUT changes many"),
    (
        "3.5",
        "POST with the override GET",
        "a POST with the override GET finds, its parameters stand in the body",
    ),
    (
        "3.5",
        "other overrides",
        APP + "test_other_overrides_are_refused_and_only_post_is_overridden",
    ),
    ("3.5", "unknown address", APP + "test_an_unknown_address_is_404_with_the_known_words"),
    ("3.6", "unknown parameters are named", "a parameter that is none is named and ignored"),
    ("3.6", "an answer is at most 64 MiB", APP + "test_an_answer_has_a_bound"),
    ("3.6", "order of types", "tests/together/test_filters_agree.py"),
    (
        "3.6",
        "booleans in any case; limits; order=geo",
        DROP + "test_a_bad_parameter_is_400_and_named",
    ),
    (
        "3.6",
        "only: dotted names, id always",
        DROP + "test_only_shows_the_same_parts_in_find_read_and_mget",
    ),
    ("3.6", "sort by an element", "drops of several flows: sorted by an element"),
    ("3.6", "references of drops", DROP + "test_references_hold_the_creator_and_the_flow"),
    ("1.3", "paths are normalised", "the path of a flow is put into its one form"),
    ("1.4", "fhash replaces", "a drop with an fhash that is there replaces the earlier one"),
    ("1.5", "capacity evicts", "a full flow evicts its oldest drop"),
    ("1.5", "capacity 0", "a flow of capacity 0 keeps nothing"),
    ("1.5", "the filter of a flow", "a drop that the flow's filter refuses is not stored"),
    (
        "2.3",
        "typed answers under v0.*",
        "under v0.1 elements are typed unless hints says otherwise",
    ),
    ("8.2", "a token reads under its paths", "a token lists the flows under its paths alone"),
    (
        "8.2",
        "a token writes drops only with dropWrite",
        "a token with dropRead reads drops and writes none",
    ),
    (
        "8.2",
        "dropWrite without dropRead",
        "a token with dropWrite alone writes drops and reads none",
    ),
    (
        "1.6",
        "the Flows of a Track must be there",
        "a track needs its source and destination to be there",
    ),
    ("1.13", "changes are told in the inbox", "a flow is changed"),
    ("5.1", "groupBy may be left out", "without groups there is one row"),
    ("5.4", "rows are keyed by the words as sent", "drops are aggregated in groups"),
    (
        "6.1",
        "a Drop waits for its Tracks in the commit that wrote it",
        "a drop waits for the tracks of its flow, in the commit that wrote it",
    ),
    ("6.1", "a disabled Track", "nothing waits for a disabled track"),
    ("6.6", "simulation has no effect", "a track is run on one drop without any effect"),
    ("10", "one finer than the period", "drops added are counted of a month"),
    ("10", "another level", "drops added are counted of a year: at another level"),
    ("12", "array create", "an array of drops that all fit answers 201"),
    ("12", "at most 10,000 entries", DROP + "test_an_array_has_a_bound"),
    (
        "12",
        "16 MiB for an array, 1 MiB otherwise",
        APP + "test_a_body_has_a_bound_and_an_array_a_larger_one",
    ),
)
"""Rules of the protocol: section, rule, and the scenario (by name) or test that shows it."""
