"""The SQL functions: the budget of patterns, and values of any kind."""

import apsw
import pytest

from flowkit.errors import BadRequest
from flowkit.query import patterns
from flowkit.server.store import functions


@pytest.fixture
def connection():
    """A database with the functions."""
    opened = apsw.Connection(":memory:")
    functions.install(opened)
    return opened


def test_a_spent_budget_ends_the_query():
    """Patterns of one request may take so long together; the next request has the whole again."""
    budget = functions.RegexBudget(limit_ms=5)
    compiled = patterns.compile("(a|b)*c$")
    text = "ab" * 200_000

    def searches():
        return [budget.search(compiled, text) for _ in range(1_000)]

    with pytest.raises(BadRequest, match="the regular expression takes too long: more than 5 ms"):
        searches()
    budget.start()
    assert budget.search(compiled, "abc")


def test_the_error_of_a_function_reaches_the_caller_as_it_is():
    """A refusal inside a query is a BadRequest, not an error of the database."""
    opened = apsw.Connection(":memory:")
    budget = functions.install(opened)
    budget._spent_s = 1.0

    with pytest.raises(BadRequest, match="filter: the regular expression takes too long"):
        opened.execute("SELECT fk_regex('a', '', 'a')").fetchall()
    budget.start()
    assert opened.execute("SELECT fk_regex('a', '', 'a')").get == 1


CALLS = [
    ("fk_regex('a', 'i', 'xAx')", 1),
    ("fk_regex('a', '', 5)", 0),
    ("fk_regex('a', '', NULL)", 0),
    ("fk_modulo(-7, 3, -1)", 1),
    ("fk_modulo(5.5, 2, 1.5)", 1),
    ("fk_modulo('7', 3, 1)", 0),
    ("fk_near(0, 1, 0.0, 0.0, 112.0)", 1),
    ("fk_near(0, 1, 0.0, 0.0, 111.0)", 0),
    ("fk_near('0', 1, 0.0, 0.0, 112.0)", 0),
    ("""fk_same('{"a":[1,true]}', '{"a":[1.0,true]}')""", 1),
    ("""fk_same('{"a":[1,true]}', '{"a":[1,1]}')""", 0),
    ("""fk_has('{"a":5}', '{"elems.a":"date"}', 'date')""", 1),
    ("""fk_has('{"a":5}', '{"elems.a":"date"}', 'integer')""", 0),
    ("""fk_has('{"a":5}', NULL, 'integer')""", 1),
]


@pytest.mark.parametrize(("call", "expected"), CALLS)
def test_each_function_answers_0_or_1(connection, call, expected):
    """The functions are those of the Python evaluator, with SQL's values."""
    assert connection.execute(f"SELECT {call}").get == expected
