"""The 79 defects of the first client (protocol 13.2), each with the tests that show it absent.

``ABSENT`` maps a number to node ids; ``LATER`` says for the rest why there is nothing to show yet.
Numbers 37 and 39 stand in both: the part that this version has is shown, the rest is named.
"""

import ast
import copy
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest

import flowkit
from flowkit import AGE, EXISTS, NOT, Filter, M, all_of, mem
from flowkit.errors import FilterError

TESTS = Path(__file__).parents[1]

HERE = "meta/test_defects.py::"
API = "client/test_api.py::"
SERVICES = "client/test_services.py::"
CREDENTIALS = "client/test_credentials.py::"
CHANGES = "client/test_changes.py::"
ENCODING = "client/test_encoding.py::"
TRANSPORT = "client/test_transport.py::"
BUILD = "query/test_build.py::"
CONCURRENT = "client/test_concurrent.py::"
THUNK = "client/test_thunk.py::"
COMPAT = "compat/test_flowthings.py::"
EXPORTS = "test_exports.py::"
LISTENER = "client/live/test_subscription.py::"
RUNNER = "client/live/test_runner.py::"
WAY = "client/live/test_way.py::"
TOGETHER = "together/test_parallel_calls.py::"
SEEN = HERE + "test_what_was_seen_is_not_seen_any_more"

ABSENT = {
    1: [API + "test_the_old_name_async_is_reachable", HERE + "test_the_package_imports"],
    2: [HERE + "test_the_package_imports", CHANGES + "test_an_m_is_a_mapping"],
    3: [HERE + "test_the_package_says_what_it_needs"],
    4: [
        EXPORTS + "test_importing_the_package_imports_nothing_heavy",
        EXPORTS + "test_the_websocket_library_is_not_imported_by_the_client",
    ],
    5: [API + "test_without_a_host_the_environment_says_it_or_an_error_does"],
    6: [
        TRANSPORT + "test_a_silent_server_costs_the_timeout_and_no_more",
        TRANSPORT + "test_a_trickling_server_cannot_stretch_the_deadline",
        API + "test_one_time_bounds_all_attempts",
    ],
    7: [
        TRANSPORT + "test_requests_one_after_another_use_one_connection",
        API + "test_the_end_of_the_block_closes_the_transport",
    ],
    8: [
        API + "test_a_read_is_repeated_after_a_passing_failure",
        API + "test_a_write_is_repeated_only_for_a_server_that_replays",
        API + "test_an_array_create_is_repeated_only_if_nothing_can_be_stored_twice",
        API + "test_the_server_sets_the_pace_of_all_calls",
    ],
    9: [API + "test_html_from_a_proxy_keeps_its_status_and_shows_its_beginning"],
    10: [
        API + "test_a_head_that_is_not_ok_is_an_error_whatever_the_status",
        API + "test_a_redirect_is_an_error",
    ],
    11: [API + "test_every_status_has_its_error"],
    12: [
        API + "test_an_error_says_what_was_asked_and_what_was_answered",
        API + "test_missing_errors_and_references_are_empty",
    ],
    13: [
        TRANSPORT + "test_nobody_listening_is_a_connect_error",
        TRANSPORT + "test_a_connection_that_ends_without_an_answer_is_lost",
        COMPAT + "test_every_error_of_flowkit_is_a_flowthings_error",
        COMPAT + "test_the_errors_of_a_request_function_become_flowkits",
    ],
    14: [
        API + "test_the_parts_of_a_path_are_percent_encoded",
        API + "test_what_is_no_id_is_refused_before_it_is_sent",
    ],
    15: [
        API + "test_refs_that_slipped_into_the_defaults_are_refused_when_an_api_is_made",
        API + "test_an_option_that_cannot_work_is_refused",
        API + "test_refs_give_a_pair",
    ],
    16: [API + "test_query_parameters_are_the_platforms_texts"],
    17: [API + "test_an_empty_answer_is_none"],
    18: [ENCODING + "test_bytes_are_utf_8"],
    19: [
        API + "test_requests_are_logged_at_debug_only",
        API + "test_no_error_and_no_log_line_holds_the_secret",
    ],
    20: [CREDENTIALS + "test_a_token_never_shows_its_secret"],
    21: [
        COMPAT + "test_a_request_function_is_called_like_that_of_requests",
        COMPAT + "test_a_request_function_that_takes_little_gets_little",
        TRANSPORT + "test_certificates_that_cannot_be_read_are_refused_at_once",
    ],
    22: [
        ENCODING + "test_a_value_becomes_what_the_platform_stores",
        ENCODING + "test_what_would_be_stored_wrongly_is_refused",
    ],
    23: [API + "test_the_whole_answer_can_be_had"],
    24: [
        SERVICES + "test_find_iter_has_no_silent_cap",
        SERVICES + "test_find_iter_gives_each_lasting_object_exactly_once",
    ],
    25: [
        SERVICES + "test_filters_given_together_are_joined_with_and",
        SERVICES + "test_a_raw_filter_in_the_place_of_an_id_is_explained",
    ],
    26: [SERVICES + "test_find_reads_by_an_id_reads_many_by_a_collection_and_finds_by_filters"],
    27: [SERVICES + "test_filters_given_together_are_joined_with_and"],
    28: [API + "test_a_raw_filter_and_a_bool_are_told_apart"],
    29: [
        SERVICES + "test_a_wrong_model_is_refused_before_anything_is_sent",
        SERVICES + "test_an_m_sends_its_changes_and_without_any_it_only_reads",
    ],
    30: [SERVICES + "test_an_update_leaves_out_what_the_server_sets"],
    31: [
        CHANGES + "test_the_diff_holds_exactly_what_was_changed",
        CHANGES + "test_an_m_is_a_mapping",
    ],
    32: [
        CHANGES + "test_a_misspelt_parameter_is_refused",
        CHANGES + "test_parameters_are_a_mapping_that_grows_by_calls",
    ],
    33: [API + "test_services_use_the_credentials_of_the_moment"],
    34: [API + "test_options_are_read_once"],
    35: [
        API + "test_options_are_read_once",
        API + "test_defaults_are_checked_and_independent",
    ],
    36: [
        API + "test_an_unknown_keyword_is_an_error",
        API + "test_options_are_keywords",
        COMPAT + "test_unknown_keywords_and_positions_are_errors_here_too",
    ],
    37: [
        SERVICES + "test_the_life_of_a_flow",
        SERVICES + "test_drops_by_path_without_naming_the_flow_first",
        SERVICES + "test_several_flows_with_one_request",
    ],
    38: [SERVICES + "test_identities_are_made_by_the_administrator_only"],
    39: [
        SERVICES + "test_an_aggregation_sends_what_was_asked",
        SERVICES + "test_an_aggregation_that_means_nothing_is_refused",
    ],
    40: [
        SERVICES + "test_an_impossible_period_is_refused",
        SERVICES + "test_statistics_ask_for_a_period",
    ],
    41: [
        CREDENTIALS + "test_without_bluemix_credentials_the_default_is_returned_whatever_it_is",
        CREDENTIALS + "test_ctrl_c_is_not_taken_for_missing_credentials",
    ],
    42: [SEEN, "query/test_render.py::test_the_strings_are_exactly_these"],
    43: [SEEN, "query/test_parse.py::test_no_value_can_leave_its_literal"],
    44: [SEEN, BUILD + "test_patterns_are_text_or_compiled"],
    45: [
        SEEN,
        BUILD + "test_the_four_words_are_methods_and_every_other_name_is_a_member",
    ],
    46: [SEEN, BUILD + "test_what_python_would_misread_is_refused"],
    47: [SEEN],
    48: [SEEN],
    49: [SEEN, BUILD + "test_lists_are_given_one_by_one_or_as_one_iterable"],
    50: [SEEN, BUILD + "test_places_are_coordinates_or_postal_codes"],
    51: [SEEN, BUILD + "test_age_takes_milliseconds_or_a_timedelta"],
    52: [
        SEEN,
        BUILD + "test_values_are_brought_to_one_plain_form",
        BUILD + "test_values_that_cannot_be_compared_with_are_refused",
    ],
    53: [SEEN, BUILD + "test_brackets_split_one_name_at_dots_and_take_several_as_they_are"],
    54: [SEEN],
    55: [SEEN],
    56: [
        SEEN,
        "query/test_render.py::test_repr_is_source_that_builds_the_filter_again",
        "query/test_nodes.py::test_filters_are_equal_exactly_when_their_texts_are",
    ],
    57: [
        CONCURRENT + "test_a_plain_script_needs_no_patching_and_no_hub",
        CONCURRENT + "test_a_patched_process_works_the_same",
        TOGETHER + "test_in_a_process_that_eventlet_patched_both_kinds_of_calls_work",
    ],
    58: [
        CONCURRENT + "test_a_failed_call_raises_at_its_place_and_the_rest_stays",
        CONCURRENT + "test_results_wait_for_all",
    ],
    59: [CONCURRENT + "test_outcomes_are_pairs_again_and_again"],
    60: [
        CONCURRENT + "test_a_call_answers_its_green_thread_at_once",
        CONCURRENT + "test_a_second_results_is_not_empty_and_a_new_call_begins_a_batch",
        CONCURRENT + "test_threads_may_make_calls_with_one_object",
    ],
    61: [
        CONCURRENT + "test_the_bound_counts_calls_on_the_wire",
        CONCURRENT + "test_without_a_pool_the_default_bounds",
    ],
    62: [
        THUNK + "test_a_reading_answers_what_the_value_answers",
        THUNK + "test_changes_reach_the_value",
    ],
    63: [THUNK + "test_none_is_a_result_like_any_other"],
    64: [
        THUNK + "test_simplejson_writes_thunks_anywhere",
        THUNK + "test_isinstance_sees_the_class_of_the_value",
        API + "test_a_plain_call_takes_thunks",
        CONCURRENT + "test_thunks_are_resolved_wherever_they_stand",
    ],
    65: [
        THUNK + "test_an_error_comes_at_each_reading_as_a_fresh_copy",
        THUNK + "test_the_message_of_our_errors_names_request_and_line",
    ],
    66: [RUNNER + "test_the_old_callbacks_are_called_as_they_always_were"],
    67: [RUNNER + "test_without_any_handler_nothing_goes_wrong"],
    68: [
        RUNNER + "test_what_is_not_a_message_is_reported_and_passed",
        RUNNER + "test_an_error_without_a_msgid_reaches_on_error",
    ],
    69: [RUNNER + "test_a_failed_reply_reaches_the_callback_that_takes_errors"],
    70: [
        RUNNER + "test_a_late_reply_is_ignored",
        RUNNER + "test_a_callback_that_raises_is_called_once",
        RUNNER + "test_commands_under_way_fail_at_a_loss",
    ],
    71: [RUNNER + "test_a_heartbeat_and_a_ping_go_out_in_time"],
    72: [
        RUNNER + "test_after_a_loss_everything_is_subscribed_again_from_its_place",
        RUNNER + "test_what_passes_is_tried_again_and_told_once",
    ],
    73: [RUNNER + "test_the_old_callbacks_are_called_as_they_always_were"],
    74: [
        RUNNER + "test_close_from_a_handler_does_not_wait_for_itself",
        RUNNER + "test_run_and_start_take_turns_with_nobody",
        LISTENER + "test_a_for_loop_gets_the_drops",
    ],
    75: [LISTENER + "test_handlers_of_its_own_are_called_in_place_of_on_message"],
    76: [RUNNER + "test_send_leaves_the_callers_message_as_it_is"],
    77: [RUNNER + "test_what_is_no_flow_is_refused_at_once"],
    78: [RUNNER + "test_replies_in_any_order_find_their_commands"],
    79: [
        WAY + "test_tls_is_that_of_the_requests",
        WAY + "test_a_proxy_of_the_environment_is_tunnelled_through",
        WAY + "test_a_session_of_the_users_own_goes_along",
    ],
}

LATER = {
    37: "simulation and local Tracks come with the Tracks",
    39: "the client's side is shown; the server's aggregation is a later issue",
}


def defined(path):
    """Names of the test functions of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("number", range(1, 80))
def test_every_defect_has_its_test_or_its_reason(number):
    """The tests named in the table exist; a number without tests has a reason."""
    assert number in ABSENT or LATER.get(number)
    for node in ABSENT.get(number, ()):
        file, _, name = node.partition("::")
        assert (TESTS / file).is_file(), node
        assert name in defined(TESTS / file), node


def test_the_table_has_no_other_numbers():
    """79 defects, no more, and both parts together cover them."""
    assert set(ABSENT) | set(LATER) == set(range(1, 80))


# --- what needs no other place --------------------------------------------------------------------


def test_the_package_imports():
    """On this Python, with every public name."""
    for name in flowkit.__all__:
        getattr(flowkit, name)
    assert issubclass(M, Mapping)


def test_the_package_says_what_it_needs():
    """No ``six``, a declared range of Pythons, types for others."""
    assert not any(re.match(r"six\b", line) for line in requires("flowkit") or ())
    assert metadata("flowkit")["Requires-Python"] == ">=3.11"
    assert (Path(flowkit.__file__).parent / "py.typed").is_file()


def raises(act):
    """Whether *act* is refused with an error of the filter language."""
    try:
        act()
    except FilterError:
        return True
    return False


def _forty_six():
    return [
        raises(lambda: mem.a == 1 and mem.b == 2),
        raises(lambda: mem.a == 1 or mem.b == 2),
        raises(lambda: not mem.a == 1),  # noqa: SIM201 - the defect's own words
        raises(lambda: 1 < mem.x < 5),
        str((mem.a == 1) & (mem.b == 2) | ~(mem.c == 3)),
    ]


_NASTY = ["\\", "it's", "\\'", "a' || b == 'c", "\n\t\x00", "\u2028"]

# number, what is done, what comes of it
EXPRESSIONS = [
    (42, lambda: str(NOT((mem.a == 1).AND(mem.b == 2))), "NOT ((a == 1) && (b == 2))"),
    (42, lambda: str(NOT(mem.a == 1)), "NOT a == 1"),
    (
        43,
        lambda: [Filter.parse(str(mem.a == text)) == (mem.a == text) for text in _NASTY],
        [True] * 6,
    ),
    (44, lambda: str(mem.a.re(r"x\/y")), r"a =~ /x\/y/"),
    (44, lambda: str(mem.a.re("x/y")), r"a =~ /x\/y/"),
    (44, lambda: str(mem.a.re(re.compile("x", re.IGNORECASE))), "a =~ /x/i"),
    (44, lambda: raises(lambda: mem.a.re("x", "q")), True),
    (45, lambda: str(mem.elems.name == 1), "elems.name == 1"),
    (45, lambda: str(mem["elems"]["re"] == 1), "elems.re == 1"),
    (45, lambda: str(mem["elems"]["CONTAINS"] == 1), "elems.CONTAINS == 1"),
    (46, _forty_six, [True, True, True, True, "((a == 1) && (b == 2)) || (NOT c == 3)"]),
    (47, lambda: isinstance(hash(mem.a), int) and isinstance(hash(AGE), int), True),
    (47, lambda: {mem.a == 1: "kept"}[mem.a == 1], "kept"),
    (48, lambda: str(mem.a == None), "a == null"),  # noqa: E711 - the defect's own words
    (49, lambda: str(mem.a.IN([1, 2])), "a IN [1,2]"),
    (49, lambda: raises(lambda: mem.a.IN()), True),
    (50, lambda: raises(lambda: mem.a.WITHIN(5)), True),
    (50, lambda: raises(lambda: mem.a.WITHIN(5, "KM", coords=())), True),
    (50, lambda: raises(lambda: mem.a.WITHIN(5, "KM", coords=(1, 2), zip="11201")), True),
    (50, lambda: str(mem.a.WITHIN(5, "KM", coords=(0, 0))), "a WITHIN 5 KM OF [0,0]"),
    (50, lambda: str(mem.a.WITHIN(5, "KM", zip="01201")), "a WITHIN 5 KM OF [ZIP=01201]"),
    (51, lambda: str(AGE > 0), "AGE > 0"),
    (51, lambda: str(AGE < timedelta(seconds=2)), "AGE < 2000"),  # noqa: SIM300 - a term, not a constant
    (51, lambda: raises(lambda: AGE > True), True),
    (52, lambda: raises(lambda: mem.a == math.inf), True),
    (52, lambda: raises(lambda: mem.a == math.nan), True),
    (52, lambda: str(mem.a == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)), "a == 1000"),
    (53, lambda: str(mem["a b == 1 || c"] == 1), '["a b == 1 || c"] == 1'),
    (54, lambda: str(AGE(mem.x) > 1), "AGE('x') > 1"),
    (54, lambda: str(AGE("x") > 1), "AGE('x') > 1"),
    (55, lambda: str(mem.a % 5 == 0), "a % 5 == 0"),
    (55, lambda: str(mem.a != 1), "a != 1"),
    (55, lambda: Filter.parse("a == Date(5)").matches({"elems": {"a": 5}}), True),
    (56, lambda: copy.copy(mem.a == 1) == (mem.a == 1), True),
    (
        56,
        lambda: eval(repr(all_of(mem.a == 1, EXISTS(mem.b)))).matches({"elems": {"a": 1, "b": 2}}),
        True,
    ),
]


@pytest.mark.parametrize(("number", "act", "wanted"), EXPRESSIONS)
def test_what_was_seen_is_not_seen_any_more(number, act, wanted):
    """The expressions of the defects' own rows, and what comes of them now."""
    assert act() == wanted
    assert number in ABSENT
