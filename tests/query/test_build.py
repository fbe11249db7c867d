"""Filters from Python operators: what is built, what is refused, what comes later."""

from __future__ import annotations

import copy
import enum
import inspect
import pickle
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from flowkit import limits
from flowkit.errors import FilterError, LimitError
from flowkit.query import (
    AGE,
    EXISTS,
    HAS,
    MATCHES,
    NOT,
    Filter,
    all_of,
    any_of,
    mem,
)
from flowkit.query.build import Misread, as_filter, has_placeholders, resolve
from flowkit.query.nodes import (
    And,
    Comparison,
    Everything,
    In,
    MemberComparison,
    Or,
    Placeholder,
    Regex,
    Within,
    Zip,
)
from flowkit.query.normal import literal


class Colour(enum.Enum):
    """Values that are text."""

    RED = "red"


class Level(enum.IntEnum):
    """Values that are numbers."""

    HIGH = 3


class Word(enum.StrEnum):
    """Members that are text themselves."""

    YES = "yes"


class Untouchable:
    """A thunk that fails when anything of it is looked at; only its type tells what it is."""

    __flowkit_thunk__ = True

    def __init__(self, value):
        object.__setattr__(self, "value", value)

    def _touched(self, *_):
        raise AssertionError("the thunk was touched")

    __getattr__ = __eq__ = __bool__ = __iter__ = __len__ = __str__ = __hash__ = _touched
    __index__ = __float__ = __int__ = __getitem__ = __contains__ = __setattr__ = _touched
    __class__ = property(_touched)  # what isinstance asks for, as of a real thunk


def unwrap(thunk):
    """What the thunk stands for."""
    return object.__getattribute__(thunk, "value")


MOMENT = datetime(2018, 2, 3, 4, 5, 6, 789_999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (1, 1),
        (1.0, 1.0),
        (True, True),
        (None, None),
        ("x", "x"),
        (MOMENT, 1517630706789),
        (MOMENT.astimezone(timezone(timedelta(hours=5))), 1517630706789),
        (datetime(1969, 12, 31, 23, 59, 59, 999_500, tzinfo=UTC), -1),
        (timedelta(seconds=1.5), 1500),
        (timedelta(microseconds=1999), 1),
        (Decimal("12.0") * 10, 120.0),
        (Decimal("-0"), 0),
        (Decimal(12), 12),
        (Decimal("1.5"), 1.5),
        (Decimal("1E+3"), 1000),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Word.YES, "yes"),
        ("\ud83d\ude00", "😀"),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_values_are_brought_to_one_plain_form(given, kept):
    """What a node holds has a plain type, whatever was given."""
    value = (mem.a == given).value

    assert (type(value), value) == (type(kept), kept)


def _numpy(name, shows):
    """A scalar like those of numpy: its module and item() are what it is known by."""
    return type(
        name, (), {"__module__": "numpy", "item": lambda _: shows, "__bool__": lambda _: shows}
    )()


def test_numpy_scalars_are_their_plain_values():
    """A numpy number is taken as the number it shows, its dates are not."""
    assert (mem.a == _numpy("float32", 1.5)) == (mem.a == 1.5)
    assert (mem.a == _numpy("int64", 7)) == (mem.a == 7)
    assert mem.a.IN(_numpy("bool_", True)) == mem.a.IN(True)
    assert mem.a.IN(_numpy("bool", False)) == mem.a.IN(False)
    with pytest.raises(FilterError, match="datetime64"):
        assert mem.a == _numpy("datetime64", 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (float("nan"), "not a number that can be compared"),
        (float("inf"), "not a number that can be compared"),
        (datetime(2018, 1, 1), "no time zone"),
        (date(2018, 1, 1), "a day is no moment"),
        (Decimal("0.1"), "float"),
        (Decimal("NaN"), "float"),
        (Decimal("1E+1000000"), "float"),
        (b"x", "decode"),
        ({1}, r"\.IN"),
        ([1], r"\.IN"),
        ({}, "dict"),
        (object(), "object"),
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        (mem.b == 1, "parentheses"),
        (AGE, "no value"),
        (mem.b % 5, "no value"),
        (mem.b.re, "no value"),
        (1j, "complex"),
    ],
)
def test_values_that_cannot_be_compared_with_are_refused(given, said):
    """Each is refused when the filter is built, with the way out."""
    with pytest.raises(FilterError, match=said):
        assert mem.a == given


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("mem.a == 1 and mem.b == 2", "join with &"),
        ("mem.a == 1 or mem.b == 2", "join with &"),
        ("not (mem.a == 1)", r"NOT\(\)"),
        ("1 < mem.x < 5", r"\(1 < m\) & \(m < 5\)"),
        ("0 if mem.a == 1 else 1", "join with &"),
        ("mem.x in [1, 2]", r"m\.IN"),
        ("1 in mem.y", "CONTAINS"),
        ("not mem.a", "EXISTS"),
        ("bool(mem.a)", "EXISTS"),
        ("mem.a and mem.b == 2", "EXISTS"),
        ("mem.a == 1 & mem.b == 2", "parentheses around each"),
        ("mem.a == mem.c & mem.b == 2", "parentheses around each"),
        ("mem.a == 'x' | mem.b == 2", "parentheses around each"),
        ("mem.a == 1 & (mem.b == 2)", "parentheses around each|is not a filter"),
        ("(mem.a == 1) & mem.b", "alone is not a filter"),
        ("AGE < 5 & mem.a == 1", "parentheses around each"),
        ("mem.a ^ mem.b", "parentheses"),
        ("~mem.a", r"NOT\(EXISTS"),
        ("mem.a + 1 > 2", "cannot compute"),
        ("5 % mem.a == 1", "cannot compute"),
        ("-mem.a < 1", "negate the value"),
        ("mem.a % 5 < 1", "== and !="),
        ("mem.a % 5 % 2 == 1", "only a member"),
        ("bool(mem.a % 5)", "join comparisons"),
        ("bool(AGE)", "join comparisons"),
        ("AGE % 5 == 0", "only a member"),
        ("AGE < mem.a", "compares with a member"),
        ("mem.elems.re == 1", r"mem\.elems\['re'\]"),
        ("mem.elems.IN > 1", r"mem\.elems\['IN'\]"),
        ("mem.re.temp == 1", r"mem\['re'\]"),
        ("mem.a.IN(mem.b)", "any_of"),
        ("setattr(mem, 'a', 1)", "compare with =="),
        ("all_of(mem.a == 1, True)", "True is not a filter"),
        ("any_of(1 in [1])", "True is not a filter"),
        ("NOT('a == 1')", r"Filter\.parse"),
        ("(mem.a == 1) & 'b == 2'", r"filter='…'"),
        ("NOT(None)", "None is not a filter"),
        ("all_of(AGE)", "alone is not a filter"),
        ("mem.a == 1 & (mem.b == 2)", r"1 & \(mem\.b == 2\) joins with a int.*parentheses"),
        ("mem.a == 'x' & (mem.b == 2)", "joins with a str.*parentheses"),
        ("mem.a == True | (mem.b == 2)", "joins with a bool.*parentheses"),
        ("mem.a.startswith('x')", r"mem\.a\.startswith\(…\) calls a member.*m\.re\('\^…'\)"),
        ("mem.a.lower() == 'x'", "ignore case"),
        ("mem.a.contains(1)", r"m\.CONTAINS"),
        ("mem.a.between(1, 5)", r"\(m >= 1\) & \(m <= 5\)"),
        ("mem.a.anything()", "has the words re, IN, CONTAINS and WITHIN$"),
        ("mem.a.AND(mem.b == 1)", "parentheses"),
        ("mem()", r"mem\(…\) calls a member"),
    ],
)
def test_what_python_would_misread_is_refused(written, said):
    """Each raises at once, as a TypeError too, and says what to write instead."""
    with pytest.raises(Misread, match=said) as caught:
        eval(written)

    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("mem == 1", "mem alone"),
        ("mem['']", "empty"),
        ("mem['a..b']", "empty"),
        ("mem.a[-1]", "from the end"),
        ("mem.a[True]", "names no member"),
        ("mem.a[10**5000]", "very long int"),
        ("mem.a == 10**5000", "64 bits"),
        ("mem.a.IN(5 % 10**5000, 10**5000)", "64 bits"),
        ("AGE < [10**5000]", "very long list"),
        ("mem.a[1.5]", "names no member"),
        ("mem.a[()]", "names no member"),
        ("EXISTS(5)", "names no member"),
        ("EXISTS(mem)", "mem alone"),
        ("AGE('a')('b')", "already"),
        ("HAS('odd name')", "data type"),
        ("HAS(5)", "data type"),
        ("mem.a.IN()", "no value"),
        ("mem.a.CONTAINS()", "no value"),
        ("mem.a.IN({'x': 1})", "mapping"),
        ("mem.a.IN([1], [2])", r"\.IN"),
        ("mem.a.IN(b'x')", "decode"),
        ("mem.a.re('x', 'q')", "unknown regex flag 'q'"),
        ("mem.a.re(5)", "pattern is text"),
        ("mem.a.re('x\\\\')", "lone backslash"),
        ("mem.a.re('\\ud800')", "half a surrogate"),
        ("mem.a.re('a\\nb', 'x')", "one line"),
        ("mem.a.re(re.compile('a', re.A))", "no letter"),
        ("mem.a.re(re.compile(b'a'))", "pattern is text"),
        ("mem.a.re(re.compile('a'), 'i')", "flags of its own"),
        ("MATCHES(5)", "pattern is text"),
        ("mem.a.WITHIN(5)", "either coords or zip"),
        ("mem.a.WITHIN(5, coords=(1, 2), zip='1')", "either coords or zip"),
        ("mem.a.WITHIN(5, coords=())", "0 numbers"),
        ("mem.a.WITHIN(5, 'LEAGUES', (1, 2))", "unknown unit"),
        ("mem.a.WITHIN(-1, 'KM', (1, 2))", "negative"),
        ("mem.a.WITHIN(True, 'KM', (1, 2))", "number is needed"),
        ("mem.a.WITHIN(1, 'KM', (100, 2))", "latitude comes first"),
        ("mem.a.WITHIN(1, 'KM', '12')", "latitude, longitude"),
        ("mem.a.WITHIN(1, 'KM', zip='')", "postal code"),
        ("mem.a.WITHIN(1, 'KM', zip=True)", "postal code"),
        ("AGE < True", "number is needed"),
        ("AGE < 'x'", "the age is 'x', a number is needed$"),
        ("AGE < None", "the age is None, a number is needed$"),
        ("mem.a % 5 == 'x'", "the remainder is 'x', a number is needed$"),
        ("mem.a == object()", "of the type object, is no value to compare with"),
        ("mem.a[1:2]", r"mem\['a'\]"),
        ("AGE < datetime.now(UTC)", "duration"),
        ("AGE < float('nan')", "not a number"),
        ("mem.a % 0 == 1", "division by 0"),
        ("mem.a % 5 == True", "number is needed"),
        ("all_of()", "no filter"),
        ("any_of([])", "no filter"),
        ("NOT(Filter.parse(''))", "negated"),
    ],
)
def test_mistakes_are_named_when_the_filter_is_built(written, said):
    """Each raises a FilterError that says what is wrong."""
    with pytest.raises(FilterError, match=said):
        eval(written)


@pytest.mark.parametrize("half", [mem.a, mem.a.re, mem.a % 5, AGE])
def test_half_a_rule_is_no_iterable_and_no_filter(half):
    """What takes filters or an iterable of ids sees at once that it is neither."""
    assert not isinstance(half, Iterable)
    with pytest.raises(TypeError, match="not iterable"):
        list(half)
    with pytest.raises(Misread, match="alone is not a filter"):
        all_of(half)


def test_the_four_words_are_methods_and_every_other_name_is_a_member():
    """An element called like a word is reached with brackets; name, path, AND are members."""
    assert (mem.elems.name == 1).path == ("elems", "name")
    assert (mem.elems["re"] == 1).path == ("elems", "re")
    assert (mem["elems"]["IN"] == 1).path == ("elems", "IN")
    assert (mem.path.keys.AND._x == 1).path == ("path", "keys", "AND", "_x")
    assert repr(mem.elems["re"].x) == "mem.elems['re'].x"
    assert [name for name in dir(mem) if not name.startswith("_")] == [
        "CONTAINS",
        "IN",
        "WITHIN",
        "re",
    ]


def test_brackets_split_one_name_at_dots_and_take_several_as_they_are():
    """mem['a.b'] is two steps, mem['a', 'b.c'] is two, mem.a[0] an index."""
    assert (mem["a.b"] == 1).path == ("a", "b")
    assert (mem["a", "b.c"] == 1).path == ("a", "b.c")
    assert (mem.a[0].b == 1).path == ("a", "0", "b")
    assert (mem["a", 0, ""] == 1).path == ("a", "0", "")
    assert EXISTS("a.b") == EXISTS(mem.a.b)
    assert (AGE("a.b") < 1) == (AGE(mem.a.b) < 1)


def test_members_do_not_invent_what_tools_ask_for():
    """Dunder names are AttributeErrors, so inspect, copy and pickle behave."""
    with pytest.raises(AttributeError):
        mem.__wrapped__
    assert inspect.unwrap(mem) is mem
    assert repr(copy.deepcopy(mem.a.b)) == repr(pickle.loads(pickle.dumps(mem.a.b))) == "mem.a.b"
    assert str(mem["a", "odd name"]) == 'a["odd name"]'
    assert len({mem.a, mem.a, AGE, mem.a.re, mem.a % 5}) == 5


def test_comparing_members_makes_a_rule_of_two_paths():
    """Both sides may be members, in every comparison."""
    assert (mem.a <= mem.b.c) == MemberComparison(("a",), "<=", ("b", "c"))
    turned = 5 > mem.a  # noqa: SIM300 - what is tried
    assert turned == Comparison(("a",), "<", 5)


def test_lists_are_given_one_by_one_or_as_one_iterable():
    """A text is one value; a set gets a fixed order; an empty list is a rule."""
    assert (
        mem.a.IN(1, 2) == mem.a.IN([1, 2]) == mem.a.IN(n for n in (1, 2)) == mem.a.IN(range(1, 3))
    )
    assert mem.a.IN("ab") == In(("a",), ("ab",))
    assert mem.a.IN({"b", "a", 1}) == mem.a.IN(frozenset([1, "a", "b"]))
    assert mem.a.IN([]) == In(("a",), ())
    assert mem.a.IN(Level) == mem.a.IN(3)
    with pytest.raises(LimitError, match="values"):
        mem.a.IN(iter(int, 1))


def test_patterns_are_text_or_compiled():
    """Flags are put in order; a compiled pattern brings its own."""
    assert mem.a.re("x", "mi") == Regex(("a",), "x", "im")
    assert mem.a.re(re.compile("x", re.IGNORECASE | re.DOTALL)) == Regex(("a",), "x", "is")
    assert mem.a.re("x", re.MULTILINE) == Regex(("a",), "x", "m")
    assert mem.a.re(r"\/") == mem.a.re("/")
    assert mem.a.re(r"\\/") == Regex(("a",), r"\\/", "")
    with pytest.raises(LimitError, match="characters"):
        mem.a.re("x" * (limits.regex_pattern_chars_max + 1))


def test_places_are_coordinates_or_postal_codes():
    """Miles unless said otherwise; (0, 0) is a place; leading zeros survive."""
    assert mem.a.WITHIN(5, coords=(0, 0)) == Within(("a",), 5, "MILES", (0, 0))
    assert mem.a.WITHIN(5, "km", [1, 2]) == Within(("a",), 5, "KM", (1, 2))
    assert mem.a.WITHIN(5, "KM", zip="01002") == Within(("a",), 5, "KM", Zip("01002"))
    assert mem.a.WITHIN(5, "KM", zip=123) == mem.a.WITHIN(5, "KM", zip="123")


def test_age_takes_milliseconds_or_a_timedelta():
    """Any real number, 0 and negative ones too."""
    assert (AGE < timedelta(minutes=10)) == (AGE < 600_000)  # noqa: SIM300 - AGE is no constant
    assert str(AGE("m") >= -0.5) == "AGE('m') >= -0.5"
    assert str(AGE > 0) == "AGE > 0"
    assert str(AGE != 1) == "AGE != 1"


def test_chains_are_one_node():
    """Operands of the same kind are taken in; a chain of one is that one."""
    a, b, c = mem.a == 1, mem.b == 2, mem.c == 3

    assert a & b & c == a & (b & c) == all_of(a, b, c) == all_of([a, b, c]) == And((a, b, c))
    assert a | b | c == a.OR(b).OR(c) == any_of(x for x in (a, b, c)) == Or((a, b, c))
    assert all_of(a) is a
    assert ~a == NOT(a)
    assert all_of(Everything(), a) is a
    assert any_of(a, Everything()) == Everything() == all_of(Everything())
    assert as_filter(a) is a


def test_too_many_rules_are_refused_when_built():
    """The bound on rules holds for filters that are built."""
    with pytest.raises(LimitError, match="rules"):
        all_of(mem.a == 1 for _ in range(limits.filter_rules_max + 1))


LATE = [
    (lambda late: mem.a == late(5), mem.a == 5),
    (lambda late: mem.a < late(MOMENT), mem.a < MOMENT),
    (lambda late: mem.a.IN(1, late(2)), mem.a.IN(1, 2)),
    (lambda late: mem.a.IN(late([1, 2])), mem.a.IN(1, 2)),
    (lambda late: mem.a.IN(late("x")), mem.a.IN("x")),
    (lambda late: mem.a.CONTAINS([late(1)]), mem.a.CONTAINS(1)),
    (lambda late: mem.a.re(late("/x"), "i"), mem.a.re("/x", "i")),
    (lambda late: MATCHES(late("x")), MATCHES("x")),
    (lambda late: mem.a.WITHIN(late(5), "KM", late((1, 2))), mem.a.WITHIN(5, "KM", (1, 2))),
    (lambda late: mem.a.WITHIN(5, "KM", (late(1), 2)), mem.a.WITHIN(5, "KM", (1, 2))),
    (lambda late: mem.a.WITHIN(5, zip=late("01002")), mem.a.WITHIN(5, zip="01002")),
    (lambda late: mem.a % late(5) == late(1), mem.a % 5 == 1),
    (lambda late: AGE < late(timedelta(seconds=1)), AGE < 1000),  # noqa: SIM300 - as above
    (lambda late: NOT((mem.a == late(1)) | EXISTS("b")) & (mem.c == 2),
     NOT((mem.a == 1) | EXISTS("b")) & (mem.c == 2)),
]  # fmt: skip


@pytest.mark.parametrize(("build", "expected"), LATE, ids=[str(e) for _, e in LATE])
def test_a_value_may_come_later_and_is_not_touched_before(build, expected):
    """A thunk is kept wherever a value may stand, and replaced by what it stands for."""
    made = build(Untouchable)

    assert has_placeholders(made)
    assert resolve(made, unwrap) == expected
    assert not has_placeholders(expected)
    assert resolve(expected, unwrap) is expected


@pytest.mark.parametrize(
    "build",
    [
        lambda late: mem.a == late(float("nan")),
        lambda late: mem.a.IN(1, late([2])),
        lambda late: mem.a.re(late("x\\")),
        lambda late: mem.a.re(late("x" * 2000)),
        lambda late: mem.a.WITHIN(5, coords=late((100, 0))),
        lambda late: mem.a.WITHIN(5, coords=late("11201")),
        lambda late: mem.a.WITHIN(5, zip=late((59.91, 10.75))),
        lambda late: mem.a.CONTAINS(late({"x": 1})),
        lambda late: mem.a % late(0) == 1,
        lambda late: (AGE < late("x")) & (mem.a == 1),  # noqa: SIM300 - as above
    ],
)
def test_an_error_of_a_late_value_names_the_line_that_built_the_rule(build):
    """The usual checks run when the value is known."""
    made = build(Untouchable)
    line = build.__code__.co_firstlineno

    with pytest.raises(FilterError, match=rf"test_build\.py:{line}"):
        resolve(made, unwrap)


def test_an_error_of_a_late_list_names_the_word_that_it_was_given_to():
    """IN and CONTAINS are told apart, and from all_of."""
    with pytest.raises(FilterError, match=r"^IN was given the mapping"):
        resolve(mem.a.IN(Untouchable({"x": 1})), unwrap)


def test_what_a_pickle_made_known_is_taken_as_it_is():
    """A thunk is pickled as the value that it stands for; a filter with it can still be sent."""
    kept = mem.a.WITHIN(5, coords=(Untouchable(1), Untouchable(2))).place
    known = Within(("a",), 5, "KM", Placeholder((1, 2), kept.origin, kept.check))

    assert resolve(known, unwrap) == mem.a.WITHIN(5, "KM", (1, 2))
    assert resolve(Comparison(("a",), "==", Placeholder(1, "x", literal)), unwrap) == (mem.a == 1)


def test_a_compiled_pattern_ignores_the_case_of_the_letters_that_python_ignores_it_of():
    """re.I knows all of Unicode; i alone only ASCII."""
    assert mem.a.re(re.compile("É", re.IGNORECASE)) == mem.a.re("É", "iu")
    assert mem.a.re(re.compile("e", re.IGNORECASE)) == mem.a.re("e", "i")
    assert mem.a.re(re.compile("É")) == mem.a.re("É")


def test_an_error_of_unwrapping_comes_through_unchanged():
    """What the thunk raises is the caller's to see."""

    def fails(_):
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        resolve(mem.a == Untouchable(1), fails)


def test_names_and_filters_cannot_come_later():
    """Only values may be unknown."""
    for attempt in (
        lambda: mem[Untouchable("a")],
        lambda: mem["a", Untouchable("b")],
        lambda: EXISTS(Untouchable("a")),
        lambda: AGE(Untouchable("a")),
        lambda: HAS(Untouchable("date")),
        lambda: mem.a.WITHIN(5, Untouchable("KM"), (1, 2)),
        lambda: (mem.a == 1) & Untouchable(mem.a == 1),
        lambda: mem.a.re("x", Untouchable("i")),
        lambda: all_of(Untouchable(mem.a == 1)),
    ):
        with pytest.raises(FilterError, match="known"):
            attempt()


def test_a_placeholder_knows_the_line_outside_of_the_package():
    """The origin is where the user wrote the rule."""
    frame = inspect.currentframe()
    made = mem.a == Untouchable(1)

    assert isinstance(made.value, Placeholder)
    assert made.value.origin == f"{__file__}:{frame.f_lineno - 3}"


def test_a_filter_keeps_no_builder_object():
    """Nodes hold plain values and path tuples."""
    for part in (all_of(mem.a == mem.b, mem.a % 5 == 0, AGE("x") < 1)).walk():
        for name in part.__dataclass_fields__:
            assert isinstance(getattr(part, name), (tuple, str, int, float, Filter, type(None)))
