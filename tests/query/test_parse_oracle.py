"""The parser agrees with a grammar written a second time, for lark, straight from protocol 4.4.

The grammar below shares no code with the parser: not its lexer, not its reading of precedence or of
escapes. Only the checks of single values (``normal.py``) are the same.
"""

# ruff: noqa: D102 - the methods of the builder are named for the rules of the grammar

from __future__ import annotations

import json

import pytest
import strategies
from hypothesis import example, given
from hypothesis import strategies as st

from flowkit.errors import FilterError, FilterSyntaxError, LimitError
from flowkit.query import chains, nodes, normal
from flowkit.query.parse import parse
from flowkit.query.render import render

lark = pytest.importorskip("lark")

GRAMMAR = r"""
    start: [disjunction]
    disjunction: conjunction ("||" conjunction)*
    conjunction: unary ("&&" unary)*
    ?unary: NOT unary -> negation
          | "(" disjunction ")"
          | rule
    ?rule: EXISTS member -> exists
         | HAS FIRST -> has
         | MATCHES REGEX -> matches
         | AGE ["(" named ")"] (COMPARE | EQUAL) number -> age
         | member "=~" REGEX -> regex
         | member IN list -> is_in
         | member CONTAINS list -> contains
         | member WITHIN number UNIT OF place -> within
         | member "%" number EQUAL number -> modulo
         | member (COMPARE | EQUAL) literal -> comparison
         | member (COMPARE | EQUAL) member -> two_members
    named: STRING -> dotted
         | member
    place: "[" number "," number "]" -> coordinates
         | "[" ZIP "=" (CODE | STRING) "]" -> code
    list: "[" [literal ("," literal)*] "]"
    ?literal: STRING -> string
            | number
            | TRUE -> true
            | FALSE -> false
            | NULL -> null
            | DATE "(" number ")" -> date
            | TEXT "(" STRING ")" -> string
    number: NUMBER
    member: (FIRST | "[" STRING "]") ("." (SEGMENT | DIGITS) | "[" STRING "]")*

    NOT.3: /NOT(?![\w$-])/
    EXISTS.3: /EXISTS(?![\w$-])/
    HAS.3: /HAS(?![\w$-])/
    MATCHES.3: /MATCHES(?![\w$-])/
    AGE.3: /AGE(?![\w$-])/
    IN.3: /IN(?![\w$-])/
    CONTAINS.3: /CONTAINS(?![\w$-])/
    WITHIN.3: /WITHIN(?![\w$-])/
    OF.3: /OF(?![\w$-])/
    ZIP.3: /ZIP(?![\w$-])/
    TRUE.3: /true(?![\w$-])/
    FALSE.3: /false(?![\w$-])/
    NULL.3: /null(?![\w$-])/
    DATE.3: /Date(?=[ \t\r\n]*\()/
    TEXT.3: /(Email|ObjectId)(?=[ \t\r\n]*\()/
    UNIT.3: /(MILES|MILE|MI|KM|KILOMETERS|METERS|M|FEET)(?![\w$-])/
    EQUAL.2: "==" | "!="
    COMPARE.1: "<=" | ">=" | "<" | ">"
    FIRST: /(?!(KEYWORDS)(?![\w$-]))([^\W\d]|\$)[\w$-]*/
    SEGMENT: /([^\W\d]|\$)[\w$-]*/
    DIGITS: /[0-9]+/
    NUMBER: /-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?/
    CODE: /[^\W_]([^\W_]|-)*/
    STRING: /"([^"\\]|\\[\s\S])*"|'([^'\\]|\\[\s\S])*'/
    REGEX: /\/([^\/\\\n]|\\[\s\S])*\/[^\W\d_]*/
    %ignore /[ \t\r\n]+/
""".replace("KEYWORDS", "|".join(sorted(nodes.KEYWORDS)))

SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def unquote(token):
    """A string literal read character by character."""
    found, rest = [], str(token)[1:-1]
    while rest:
        taken = 1
        character = rest[0]
        if character == "\\":
            taken = 2
            character = SHORT.get(rest[1], rest[1])
            if (
                rest[1] == "u"
                and len(rest) >= 6
                and all(c in "0123456789abcdefABCDEF" for c in rest[2:6])
            ):
                taken, character = 6, json.loads(f'"\\u{rest[2:6]}"')
        found.append(character)
        rest = rest[taken:]
    return normal.text("".join(found))


def named(segment):
    """A segment outside of brackets: letters are letters, digits are 0 to 9."""
    word = str(segment)
    if not word.isascii() and not normal.is_identifier(word):
        raise FilterError("no identifier")
    return word


class Null:
    """Stands for null inside lark's tree, where None means that something was left out."""

    value = None


class Builder(lark.Transformer):
    """The tree of lark as nodes."""

    def start(self, found):
        return nodes.Everything() if found[0] is None else found[0]

    def disjunction(self, parts):
        return chains.disjunction(parts)

    def conjunction(self, parts):
        return chains.conjunction(parts)

    def negation(self, parts):
        return chains.negation(parts[1])

    def member(self, segments):
        return tuple(unquote(s) if s.type == "STRING" else named(s) for s in segments)

    def dotted(self, parts):
        return normal.dotted(unquote(parts[0]))

    def named(self, parts):
        return parts[0]

    def exists(self, parts):
        return nodes.Exists(parts[1])

    def has(self, parts):
        return nodes.Has(named(parts[1]))

    def matches(self, parts):
        return nodes.Matches(*self._pattern(parts[1]))

    def regex(self, parts):
        return nodes.Regex(parts[0], *self._pattern(parts[1]))

    def _pattern(self, token):
        body, _, flags = str(token)[1:].rpartition("/")
        return normal.pattern(body, flags)

    def age(self, parts):
        return nodes.Age(parts[1], str(parts[2]), parts[3])

    def is_in(self, parts):
        return nodes.In(parts[0], parts[2])

    def contains(self, parts):
        return nodes.Contains(parts[0], parts[2])

    def list(self, values):
        return tuple(v.value if isinstance(v, Null) else v for v in values if v is not None)

    def within(self, parts):
        return nodes.Within(parts[0], normal.radius(parts[2]), str(parts[3]), parts[5])

    def coordinates(self, parts):
        return normal.place(parts)

    def code(self, parts):
        token = parts[1]
        if token.type == "STRING":
            return normal.zip_code(unquote(token))
        if not normal.is_bare_zip(str(token)):
            raise FilterError("no postal code")
        return normal.zip_code(str(token))

    def modulo(self, parts):
        return nodes.Modulo(parts[0], normal.divisor(parts[1]), str(parts[2]), parts[3])

    def comparison(self, parts):
        value = parts[2].value if isinstance(parts[2], Null) else parts[2]
        return nodes.Comparison(parts[0], str(parts[1]), value)

    def two_members(self, parts):
        return nodes.MemberComparison(parts[0], str(parts[1]), parts[2])

    def string(self, parts):
        return unquote(parts[-1])

    def number(self, parts):
        written = str(parts[0])
        if len(written) > 400:
            raise FilterError("too long a number")
        whole = written.lstrip("-").isdigit()
        return normal.number(int(written) if whole else float(written))

    def date(self, parts):
        return parts[1]

    def true(self, _):
        return True

    def false(self, _):
        return False

    def null(self, _):
        return Null()


READER = lark.Lark(GRAMMAR, parser="lalr", lexer="contextual", maybe_placeholders=True)


def oracle(text):
    """The filter of *text* by the second grammar, or None if it is refused."""
    try:
        return Builder().transform(READER.parse(text))
    except (lark.exceptions.UnexpectedInput, FilterError, LimitError):
        return None
    except lark.exceptions.VisitError as error:
        if isinstance(error.orig_exc, (FilterError, LimitError)):
            return None
        raise


def ours(text):
    """The filter of *text* by the parser, or None if it is refused."""
    try:
        return parse(text)
    except (FilterSyntaxError, LimitError):
        return None


@given(strategies.filters())
@example(parse("a IN [null]"))
@example(parse("a IN []"))
def test_both_read_what_is_written(made):
    """The canonical text of any filter is read as that filter by both grammars."""
    text = render(made)

    assert oracle(text) == ours(text) == made


LOOSE = [
    *["(", ")", "[", "]", ".", ",", "%", "&&", "||", "NOT ", " ", "\n", "==", "!=", "<", ">="],
    *["a", "b.c", "a-1", "IN", "AGE", "EXISTS ", "HAS ", "MATCHES", "true", "null", "Date"],
    *["5", "-3", "0.1", "1e5", ".0", "'x'", '"y"', "/r/", "/r\\//i", "ZIP=", "ZIP", "KM", " OF "],
    *[" WITHIN ", " CONTAINS ", "=", "'", '"', "\\", "/", "$", "²", "٣", "\0", "a == 1", "[1,2]"],
    *["é", "=~", "Email("],
]  # fmt: skip


@st.composite
def mutations(draw):
    """A written filter with some stretches left out, doubled or replaced."""
    text = render(draw(strategies.filters(max_leaves=4)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 6)))
        middle = draw(st.one_of(st.sampled_from(LOOSE), st.just(text[start:end] * 2), st.just("")))
        text = text[:start] + middle + text[end:]
    return text


@given(st.one_of(mutations(), st.lists(st.sampled_from(LOOSE), max_size=12).map("".join)))
@example('["a"].1IN [1]')
@example('["a"].1.5e3 == 1')
@example('["a"].MATCHES /x/ == 1')
@example('["a"].ZIP == 5')
@example("a == ZIP=5")
def test_both_refuse_the_same_texts_and_read_the_same_filter(text):
    """On mutated texts too: both refuse, or both read the same structure."""
    assert oracle(text) == ours(text)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_oracle_tells_filters_apart(count):
    """The oracle is no echo: it reads what it is given."""
    assert oracle(f"a == {count}") == nodes.Comparison(("a",), "==", count)
    assert oracle(f"a == {count} &&") is None
