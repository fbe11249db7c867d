"""Hypothesis strategies that the whole test suite shares: names, values, filters, elements, drops.

Two kinds. The *wide* ones (``paths``, ``literals``, ``filters``) draw anything that a filter may
hold: odd names, control characters, lone surrogates. The *near* ones (``near_filters``, ``drops``)
draw names and values from one small pool, so that rules meet members that exist, types collide and
about half of all rules hold. Every filter drawn here is in its one form, as ``build.py`` makes it.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from flowkit.query import chains, normal
from flowkit.query.nodes import (
    COMPARISONS,
    KEYWORDS,
    REGEX_FLAGS,
    UNITS_KM,
    Age,
    Comparison,
    Contains,
    Everything,
    Exists,
    Filter,
    Has,
    In,
    Matches,
    MemberComparison,
    Modulo,
    Path,
    Regex,
    Within,
    Zip,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
OPS = st.sampled_from(COMPARISONS)

# --- wide ------------------------------------------------------------------------------------


def texts(max_size: int = 12) -> st.SearchStrategy[str]:
    """Any text a value may be: controls, quotes, emoji, half surrogate pairs."""
    awkward = st.text(
        st.sampled_from("'\"\\/ \n\r\t\0\b\f\x7f[]().,aué😀\ud83d\ude00\u2028"), max_size=max_size
    )
    anything = st.text(st.characters(), max_size=max_size)
    with_surrogates = st.text(st.characters(categories=["Cs", "Cc", "L"]), max_size=max_size)
    return st.one_of(anything, awkward, with_surrogates).map(normal.text)


def segments() -> st.SearchStrategy[str]:
    """One step of a path: mostly plain names, also reserved words, indexes and odd names."""
    plain = st.from_regex(r"[A-Za-z_$][A-Za-z0-9_$-]{0,6}", fullmatch=True)
    reserved = st.sampled_from([*sorted(KEYWORDS), "re", "Date", "Email", "KM", "and", "__init__"])
    odd = st.sampled_from(["odd name", "a.b", "", "0a", "é", "ﬁ", "7", "007", "-", 'q"', "]", "٣"])
    return st.one_of(plain, plain, reserved, odd, texts(5))


def paths() -> st.SearchStrategy[Path]:
    """Any path of one to four segments."""
    return st.lists(segments(), min_size=1, max_size=4).map(tuple)


def numbers() -> st.SearchStrategy[int | float]:
    """Any number that a filter may hold."""
    return st.one_of(st.integers(-100, 100), INT64, FINITE)


def literals() -> st.SearchStrategy[Any]:
    """Any value that a rule may compare with."""
    return st.one_of(st.none(), st.booleans(), numbers(), texts())


def patterns() -> st.SearchStrategy[tuple[str, str]]:
    """Any pattern and flags in their one form, valid as a regular expression or not."""
    letters = st.sets(st.sampled_from(REGEX_FLAGS.replace("x", ""))).map("".join)
    body = st.text(
        st.one_of(
            st.sampled_from("/\\[](){}^$.*+?|aQEnd\n "), st.characters(exclude_categories=["Cs"])
        ),
        max_size=12,
    ).map(lambda text: text if (len(text) - len(text.rstrip("\\"))) % 2 == 0 else text + "\\")
    return st.tuples(body, letters).map(lambda pair: normal.pattern(*pair))


def places() -> st.SearchStrategy[Any]:
    """Coordinates or a postal code."""
    latitude = st.one_of(st.integers(-90, 90), st.floats(-90, 90))
    longitude = st.one_of(st.integers(-180, 180), st.floats(-180, 180))
    code = st.one_of(st.from_regex(r"[0-9]{5}", fullmatch=True), texts(6).filter(str.strip))
    return st.one_of(st.tuples(latitude, longitude), code.map(Zip))


def rules() -> st.SearchStrategy[Filter]:
    """Any single rule."""
    lists = st.lists(literals(), max_size=4).map(tuple)
    radius = st.one_of(st.integers(0, 10**6), st.floats(0, 1e6))
    names = st.from_regex(r"[A-Za-z_$][A-Za-z0-9_$-]{0,6}", fullmatch=True)
    return st.one_of(
        st.builds(Comparison, paths(), OPS, literals()),
        st.builds(MemberComparison, paths(), OPS, paths()),
        st.builds(
            Modulo, paths(), numbers().filter(bool), st.sampled_from(["==", "!="]), numbers()
        ),
        st.builds(lambda path, pair: Regex(path, *pair), paths(), patterns()),
        st.builds(In, paths(), lists),
        st.builds(Contains, paths(), lists),
        st.builds(Within, paths(), radius, st.sampled_from(sorted(UNITS_KM)), places()),
        st.builds(Exists, paths()),
        st.builds(Has, names.filter(lambda name: name not in KEYWORDS)),
        st.builds(Age, st.one_of(st.none(), paths()), OPS, numbers()),
        st.builds(lambda pair: Matches(*pair), patterns()),
    )


def compounds(leaves: st.SearchStrategy[Filter], max_leaves: int = 8) -> st.SearchStrategy[Filter]:
    """*leaves* and their combinations with ``&&``, ``||`` and ``NOT``."""

    def wider(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        several = st.lists(inner, min_size=2, max_size=4)
        return st.one_of(
            several.map(chains.conjunction),
            several.map(chains.disjunction),
            inner.map(chains.negation),
        )

    return st.recursive(leaves, wider, max_leaves=max_leaves)


def filters(max_leaves: int = 8) -> st.SearchStrategy[Filter]:
    """Any filter at all, also the empty one."""
    return st.one_of(compounds(rules(), max_leaves), st.just(Everything()))


# --- near ------------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "temp", "tags", "odd name", "location", "path", "0")
"""Names that the near filters ask for and the drops have."""

NOW_MS = 1_500_000_000_000
"""The *now* that goes with the drops drawn here; their dates lie around it."""

_NEAR_TEXTS = ("", "a", "b", "ab", "north", "South", "10", "é", "😀", "'", "f1", "true", "null")
_NEAR_INTS = (-3, -1, 0, 1, 2, 3, 5, 10, 2**53 + 1, 2**63 - 1, -(2**63), NOW_MS, NOW_MS - 500)
_NEAR_FLOATS = (-1.0, -0.0, 0.0, 0.5, 1.0, 2.5, 5.5, 10.0, 1e300, 2.0**53, 9.3e18)


def near_numbers() -> st.SearchStrategy[int | float]:
    """Numbers that meet one another: 1 and 1.0, the ends of 64 bits, neighbours of 2**53."""
    return st.one_of(st.sampled_from(_NEAR_INTS), st.sampled_from(_NEAR_FLOATS), st.integers(-3, 3))


def near_literals() -> st.SearchStrategy[Any]:
    """Values that the drops drawn here are likely to hold."""
    return st.one_of(
        st.none(), st.booleans(), near_numbers(), near_numbers(), st.sampled_from(_NEAR_TEXTS)
    )


def near_paths() -> st.SearchStrategy[Path]:
    """Paths into the drops drawn here: elements bare and with prefix, members, indexes."""
    single = st.sampled_from(NAMES).map(lambda name: (name,))
    deep = st.lists(st.sampled_from(NAMES), min_size=2, max_size=3).map(tuple)
    elements = st.one_of(single, single, single, deep)
    members = st.sampled_from(
        [
            ("creationDate",), ("lastEditDate",), ("version",), ("fhash",), ("path",), ("id",),
            ("location",), ("location", "lat"), ("location", "specifiers", "city"), ("elems",),
            ("flowId",), ("parentDropId", "flowId"), ("elems", "tags", "0"), ("tags", "1"),
        ]
    )  # fmt: skip
    return st.one_of(elements, elements.map(lambda path: ("elems", *path)), members)


def near_patterns() -> st.SearchStrategy[tuple[str, str]]:
    """Patterns that every engine takes, some of which are found in the near texts."""
    bodies = (
        "a",
        "^a",
        "b$",
        "^$",
        "a.?",
        "[A-Z]",
        "north|south",
        r"\d+",
        "",
        "é",
        "'",
        "/",
        r"^\w+$",
    )
    return st.tuples(st.sampled_from(bodies), st.sampled_from(["", "i", "s", "im"]))


def _mostly(likely: list[Path]) -> st.SearchStrategy[Path]:
    """A path of *likely* three times in four; one_of would give each branch of the rest a share."""
    return st.integers(0, 3).flatmap(lambda n: st.sampled_from(likely) if n else near_paths())


def near_rules() -> st.SearchStrategy[Filter]:
    """Rules about the drops drawn here."""
    lists = st.lists(near_literals(), max_size=5).map(tuple)
    few = st.lists(near_literals(), max_size=2).map(tuple)
    texts_at = _mostly([("path",), ("fhash",), ("a",), ("tags",), ("elems", "b")])
    places_at = _mostly([("location",), ("elems", "location")])
    values_at = _mostly([("a",), ("b",), ("temp",), ("tags",), ("version",)])
    divisors = near_numbers().filter(bool)
    distances = st.sampled_from([20_100, 5000.5, 50, 0])
    ages = st.sampled_from([-1, 0, 500, 500.5, 10_000])
    types = ("string", "boolean", "integer", "long", "float", "list", "map", "date", "location")
    centres = st.sampled_from([(59.91, 10.75), (0, 0), (60, 11), (-90, 0), (0.5, -180)])
    return st.one_of(
        st.builds(Comparison, near_paths(), OPS, near_literals()),
        st.builds(MemberComparison, near_paths(), OPS, near_paths()),
        st.builds(Modulo, near_paths(), divisors, st.sampled_from(["==", "!="]), near_numbers()),
        st.builds(lambda path, pair: Regex(path, *pair), texts_at, near_patterns()),
        st.builds(In, values_at, lists),
        st.builds(Contains, values_at, few),
        st.builds(
            Within, places_at, distances, st.sampled_from(["KM", "MILES", "KM", "M"]), centres
        ),
        st.builds(Exists, near_paths()),
        st.builds(Has, st.sampled_from(types)),
        st.builds(Age, st.one_of(st.none(), near_paths()), OPS, ages),
        st.builds(lambda pair: Matches(*pair), near_patterns()),
    )  # fmt: skip


def near_filters(max_leaves: int = 6) -> st.SearchStrategy[Filter]:
    """Filters about the drops drawn here."""
    return compounds(near_rules(), max_leaves)


def locations() -> st.SearchStrategy[dict[str, Any]]:
    """Valid locations of a Drop (protocol 2.4)."""
    place = st.sampled_from([(59.91, 10.75), (0, 0), (59.9, 10.7), (90, 180), (-33.9, -151.2)])
    return st.builds(
        lambda at, more: {"lat": at[0], "lon": at[1], **more},
        place,
        st.sampled_from([{}, {"specifiers": {"city": "north"}}]),
    )


def element_values() -> st.SearchStrategy[Any]:
    """Values of elements: scalars, lists, maps, places, nested a few levels."""
    return st.recursive(
        st.one_of(near_literals(), near_literals(), locations()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
        ),
        max_leaves=5,
    )


def elems() -> st.SearchStrategy[dict[str, Any]]:
    """The elements of a Drop."""
    usual = st.fixed_dictionaries(
        {},
        optional={
            "a": st.sampled_from(_NEAR_TEXTS),
            "b": st.one_of(near_numbers(), st.sampled_from(_NEAR_TEXTS)),
            "temp": near_numbers(),
            "tags": st.lists(st.one_of(near_literals(), st.sampled_from(_NEAR_TEXTS)), max_size=4),
            "location": locations(),
        },
    )
    odd = st.dictionaries(st.sampled_from(NAMES), element_values(), max_size=4)
    return st.builds(lambda one, other: {**other, **one}, usual, odd)


def drops() -> st.SearchStrategy[dict[str, Any]]:
    """Drops as a server answers them, some with each optional member."""
    dates = st.sampled_from([NOW_MS, NOW_MS - 1, NOW_MS - 500, NOW_MS - 10_000, NOW_MS + 5])
    return st.fixed_dictionaries(
        {
            "id": st.sampled_from(["d0000000000000000000000a1", "d0000000000000000000000a2"]),
            "flowId": st.just("f0000000000000000000000b1"),
            "path": st.sampled_from(["/nora/a", "/nora/north"]),
            "creationDate": dates,
            "creatorId": st.just("i0000000000000000000000c1"),
            "version": st.integers(0, 3),
            "elems": elems(),
        },
        optional={
            "lastEditDate": dates,
            "lastEditorId": st.just("i0000000000000000000000c1"),
            "fhash": st.sampled_from(["a", "north", ""]),
            "location": locations(),
            "parentDropId": st.just(
                {"flowId": "f0000000000000000000000b1", "dropId": "d0000000000000000000000a1"}
            ),
        },
    )
