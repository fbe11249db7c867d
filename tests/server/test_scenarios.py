"""Every scenario: the answer is as stated, and there is no effect but those that are stated."""

from dataclasses import replace

import apsw
import pytest

from tests.scenarios import ALL
from tests.scenarios.coverage import ALONE, rows
from tests.scenarios.finds import crud
from tests.scenarios.flows import FIELD
from tests.scenarios.running import run
from tests.scenarios.scenario import Scenario
from tests.scenarios.snapshot import differences, snapshot


@pytest.mark.parametrize("scenario", ALL, ids=[each.name for each in ALL])
def test_the_answer_and_every_effect_are_as_stated(tmp_path, scenario):
    """Status, head, body and the complete difference of the store."""
    run(scenario, tmp_path / "data")


def test_no_two_scenarios_have_the_same_name():
    """A name says which scenario is meant."""
    names = [each.name for each in ALL]

    assert len(set(names)) == len(names)


MADE = next(each for each in crud(FIELD) if each.name == "a flow is made")
LIES = [
    replace(MADE, effects=MADE.effects[:-1]),
    replace(MADE, effects=(*MADE.effects, "flow removed: <second>")),
    replace(MADE, effects=(*MADE.effects, MADE.effects[0])),
    replace(MADE, status=200),
    replace(MADE, answer={}),
    replace(MADE, notes=("something",)),
    replace(MADE, answer={**MADE.answer, "capacity": 6}),
    replace(MADE, pushes=("push in /nora/a: create <first>",)),
    replace(MADE, params={"pretty": "1"}, headers={"X-HTTP-Method-Override": "MGET"}),
]
"""The same scenario with something left out, added or changed."""


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
def test_a_scenario_that_states_something_else_fails(tmp_path, lie: Scenario):
    """An effect too few, one too many, another status, body, note or member."""
    with pytest.raises(AssertionError):
        run(lie, tmp_path / "data")


def test_no_table_is_left_out_of_a_snapshot(tmp_path):
    """A table that came later and that nobody put into words is compared, too."""
    file = tmp_path / "some.sqlite"
    connection = apsw.Connection(str(file))
    connection.execute("CREATE TABLE flow (key, path)")
    connection.execute("CREATE TABLE later (name, value)")
    before = snapshot(file)
    connection.execute("INSERT INTO later VALUES ('a', 1)")
    connection.close()

    assert differences(before, snapshot(file), str) == ["later made: a"]


SHOWN = [(row, name, one) for row in rows() for name, one in row.params.items()]
SHOWN = [each for each in SHOWN if (each[0].route.pattern.split("/")[0], each[1]) not in ALONE]


@pytest.mark.parametrize(
    ("row", "name", "scenario"),
    SHOWN,
    ids=[f"{row.route.method} {row.route.pattern} {name}" for row, name, _ in SHOWN],
)
def test_each_parameter_makes_the_difference_that_is_stated(tmp_path, row, name, scenario):
    """Without it the answer or the effects of the scenario that shows it are others."""
    without = {key: value for key, value in scenario.params.items() if key != name}
    body = scenario.body
    if name not in scenario.params:
        body = {key: value for key, value in body.items() if key != name}
    with pytest.raises(AssertionError):
        run(replace(scenario, params=without, body=body), tmp_path / "data")
