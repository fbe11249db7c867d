r"""Text to a filter: ``lexemes.py`` cuts it, one method a grammar rule reads the pieces.

The grammar (protocol 4.4); every method of ``_Reader`` that reads a rule is named for it::

    filter      = [ disjunction ]                               (empty: matches everything)
    disjunction = conjunction { "||" conjunction }
    conjunction = unary { "&&" unary }
    unary       = "NOT" unary | "(" disjunction ")" | rule
    rule        = "EXISTS" member | "HAS" identifier | "MATCHES" regex | age
                | member ( "=~" regex | "IN" list | "CONTAINS" list | within | modulo
                         | compare operand )
    age         = "AGE" [ "(" ( string | member ) ")" ] compare number
    modulo      = "%" number ( "==" | "!=" ) number
    within      = "WITHIN" number unit "OF" place
    place       = "[" number "," number "]" | "[" "ZIP" "=" zip "]"
    list        = "[" [ literal { "," literal } ] "]"
    operand     = literal | member
    literal     = string | number | "true" | "false" | "null"
                | "Date" "(" number ")" | ( "Email" | "ObjectId" ) "(" string ")"
    member      = ( identifier | "[" string "]" ) { "." ( identifier | digits ) | "[" string "]" }

Blanks, tabs and newlines may stand between any two lexemes. ``NOT`` binds tighter than ``&&``,
that tighter than ``||``. The keywords of ``nodes.KEYWORDS`` are no first segment of a member.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn

from flowkit import limits
from flowkit.errors import FilterError, FilterSyntaxError, LimitError
from flowkit.query import chains, normal
from flowkit.query.lexemes import (
    BLANK,
    DIGITS,
    NAME_SIGNS,
    PLAIN_CHARS_MAX,
    QUOTES,
    WORDS,
    cut,
    hint_for,
    number,
    offset_of,
    plain_path,
    unquoted,
)
from flowkit.query.nodes import (
    COMPARISONS,
    KEYWORDS,
    UNITS_KM,
    Age,
    Comparison,
    Contains,
    Everything,
    Exists,
    Filter,
    Has,
    In,
    Literal,
    Matches,
    MemberComparison,
    Modulo,
    Not,
    Path,
    Regex,
    Within,
    Zip,
)

__all__ = ["parse"]

_CACHED_CHARS_MAX = 4_096
"""Longer texts are read each time: a cache of them would hold too much memory."""

_GOES_ON = frozenset("[.")
"""What follows a name that is not the whole member."""

_GROUPS_MAX = 2 * limits.filter_depth_max + 1
"""Parentheses and NOT open at once: a filter of the greatest depth is written with two a level."""


def parse(text: str) -> Filter:
    """Read the text of a filter.

    Args:
        text: any text; the empty filter is blank text and matches everything.

    Raises:
        FilterSyntaxError: the text is no filter; has line, column and mostly a hint.
        LimitError: the text is beyond a bound of ``limits.py`` on size or depth.
        FilterError: *text* is no text.
    """
    if not isinstance(text, str):
        raise FilterError(
            f"a filter text is needed, not {normal.shown(text)}", hint="str(filter) gives the text"
        )
    if len(text) <= _CACHED_CHARS_MAX:
        return _cached(str.__str__(text))
    if len(text) > limits.filter_text_chars_max:
        raise LimitError(
            "the text of the filter",
            size=len(text),
            limit=limits.filter_text_chars_max,
            unit="characters",
        )
    return _Reader(text).filter()


@lru_cache(maxsize=limits.filter_cache_entries)
def _cached(text: str) -> Filter:
    return _Reader(text).filter()


class _Reader:
    """Reads the lexemes of one text from left to right; ``at`` is the next, ``""`` the end."""

    __slots__ = ("at", "compound", "lexemes", "open", "rules", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.lexemes = cut(text)
        self.at = 0
        self.open = 0
        self.rules = 0
        self.compound = False

    # Every method below reads what its name says and leaves ``at`` behind it.

    def filter(self) -> Filter:
        if len(self.lexemes) == 1:
            return Everything()
        found = self.disjunction()
        if self.lexemes[self.at]:
            after = self.lexemes[self.at - 1]
            slash = "/" in after and after.startswith(("=~", "MATCHES"))
            self.fail(
                "expected && or || or the end", "a slash in a pattern is \\/" if slash else None
            )
        return chains.bounded(found) if self.compound else found

    def disjunction(self) -> Filter:
        first = self.conjunction()
        if self.lexemes[self.at] != "||":
            return first
        self.compound = True
        parts = [first]
        while self.lexemes[self.at] == "||":
            self.at += 1
            parts.append(self.conjunction())
        return chains.alternatives(parts)

    def conjunction(self) -> Filter:
        first = self.unary()
        if self.lexemes[self.at] != "&&":
            return first
        self.compound = True
        parts = [first]
        while self.lexemes[self.at] == "&&":
            self.at += 1
            parts.append(self.unary())
        return chains.joined(parts)

    def unary(self) -> Filter:
        lexeme = self.lexemes[self.at]
        if lexeme != "(" and lexeme != "NOT":
            return self.rule()
        self.open += 1
        if self.open > _GROUPS_MAX:
            raise LimitError(
                "the nesting of the filter", size=self.open, limit=_GROUPS_MAX, unit="groups"
            )
        self.at += 1
        if lexeme == "NOT":
            self.compound = True
            found: Filter = Not(self.unary())
        else:
            found = self.disjunction()
            self.expect(")", "the parenthesis is not closed")
        self.open -= 1
        return found

    def rule(self) -> Filter:
        self.rules += 1
        if self.rules > limits.filter_rules_max:
            raise LimitError(
                "the filter", size=self.rules, limit=limits.filter_rules_max, unit="rules"
            )
        lexeme = self.lexemes[self.at]
        special = _SPECIAL.get(lexeme)
        if special is not None:
            return special(self)
        if "/" in lexeme and lexeme.startswith("MATCHES"):
            return self.matches()
        path = self.member()
        lexeme = self.lexemes[self.at]
        if lexeme in _COMPARISONS:
            return self.comparison(path, lexeme)
        operator = _OPERATORS.get(lexeme)
        if operator is not None:
            self.at += 1
            return operator(self, path)
        if lexeme.startswith("=~"):
            self.at += 1
            return Regex(path, *self.pattern(lexeme))
        problem = "expected an operator after the member"
        return self.fail(problem, hint_for(lexeme) or hint_for(self.lexemes[self.at - 1]))

    def comparison(self, path: Path, op: str) -> Filter:
        self.at += 1
        lexeme = self.lexemes[self.at]
        first = lexeme[:1]
        if first in QUOTES or first in DIGITS or not self.starts_member(lexeme):
            return Comparison(path, op, self.literal())
        return MemberComparison(path, op, self.member())

    def exists(self) -> Filter:
        self.at += 1
        if self.lexemes[self.at] == "(":
            self.fail("expected a member", "write EXISTS a")
        return Exists(self.member())

    def has(self) -> Filter:
        self.at += 1
        name = self.lexemes[self.at]
        if not self.is_word(name) or "." in name:
            self.fail("expected the name of a data type")
        found = Has(self.checked(normal.type_name, name))
        self.at += 1
        return found

    def matches(self) -> Filter:
        lexeme = self.lexemes[self.at]
        if lexeme == "MATCHES":
            self.at += 1
            self.fail("expected a regular expression", "write MATCHES /pattern/")
        self.at += 1
        return Matches(*self.pattern(lexeme))

    def age(self) -> Filter:
        self.at += 1
        path = None
        if self.lexemes[self.at] == "(":
            self.at += 1
            path = self.named_member()
            self.expect(")", "the parenthesis is not closed")
        op = self.lexemes[self.at]
        if op not in _COMPARISONS:
            self.fail("expected a comparison after AGE", "write AGE < 60000")
        self.at += 1
        return Age(path, op, self.number_of())

    def named_member(self) -> Path:
        lexeme = self.lexemes[self.at]
        if lexeme[:1] in QUOTES:
            path: Path = self.checked(normal.dotted, unquoted(lexeme))
            self.at += 1
            return path
        return self.member()

    def modulo(self, path: Path) -> Filter:
        divisor = self.number_of(normal.divisor)
        op = self.lexemes[self.at]
        if op not in ("==", "!="):
            self.fail("expected == or != after the divisor")
        self.at += 1
        return Modulo(path, divisor, op, self.number_of())

    def within(self, path: Path) -> Filter:
        distance = self.number_of(normal.radius)
        unit = self.lexemes[self.at]
        if unit not in UNITS_KM:
            self.fail("expected a unit of length", f"the units are {', '.join(UNITS_KM)}")
        self.at += 1
        self.expect("OF", "expected OF and a place", "write WITHIN 5 KM OF [59.91,10.75]")
        return Within(path, distance, unit, self.place())

    def place(self) -> tuple[int | float, int | float] | Zip:
        start = self.at
        self.expect("[", "expected a place", "write [59.91,10.75] or [ZIP=11201]")
        lexeme = self.lexemes[self.at]
        if lexeme.startswith("ZIP") and "=" in lexeme:
            found: Any = self.zip_code(lexeme[lexeme.index("=") + 1 :].lstrip())
            self.at += 1
        else:
            if lexeme == "ZIP":
                self.fail("expected a postal code", "write [ZIP=11201]")
            latitude = self.number_of()
            self.expect(",", "expected a comma and the longitude")
            pair = (latitude, self.number_of())
            end, self.at = self.at, start
            found = self.checked(normal.place, pair)
            self.at = end
        self.expect("]", "the bracket is not closed")
        return found  # type: ignore[no-any-return]

    def zip_code(self, code: str) -> Zip:
        if code[0] in QUOTES:
            code = unquoted(code)
        elif not normal.is_bare_zip(code):
            self.fail("expected a postal code", "write it in quotes: ZIP='…'")
        found: Zip = self.checked(normal.zip_code, code)
        return found

    def is_in(self, path: Path) -> Filter:
        return In(path, self.values())

    def contains(self, path: Path) -> Filter:
        return Contains(path, self.values())

    def values(self) -> tuple[Literal, ...]:
        self.expect("[", "expected a list", "write [1,2]")
        if self.lexemes[self.at] == "]":
            self.at += 1
            return ()
        values = [self.literal()]
        while self.lexemes[self.at] == ",":
            self.at += 1
            values.append(self.literal())
            if len(values) > limits.filter_values_max:
                raise normal.too_many_values(len(values))
        self.expect("]", "expected a comma or the end of the list")
        return tuple(values)

    def literal(self) -> Literal:
        lexeme = self.lexemes[self.at]
        first = lexeme[:1]
        if first in QUOTES:
            self.at += 1
            return unquoted(lexeme)
        if first in DIGITS:
            if lexeme.isdigit() and len(lexeme) < 19:
                self.at += 1
                return int(lexeme)
            return self.number_of()
        if lexeme in WORDS:
            self.at += 1
            return WORDS[lexeme]
        if lexeme in _CONSTRUCTORS and self.lexemes[self.at + 1] == "(":
            return self.constructor(lexeme)
        return self.fail("expected a value")

    def constructor(self, name: str) -> Literal:
        self.at += 2
        lexeme = self.lexemes[self.at]
        found: Literal
        if name == "Date":
            found = self.number_of()
        elif lexeme[:1] in QUOTES:
            found = unquoted(lexeme)
            self.at += 1
        else:
            self.fail(f"expected a string in {name}(…)")
        self.expect(")", "the parenthesis is not closed")
        return found

    def number_of(self, check: Callable[[Any], int | float] = normal.number) -> int | float:
        lexeme = self.lexemes[self.at]
        if lexeme[:1] not in DIGITS:
            self.fail("expected a number")
        found = self.checked(check, self.checked(number, lexeme))
        self.at += 1
        return found  # type: ignore[no-any-return]

    def member(self) -> Path:
        lexeme = self.lexemes[self.at]
        plain = plain_path(lexeme) if len(lexeme) < PLAIN_CHARS_MAX else None
        if plain is not None and self.lexemes[self.at + 1] not in _GOES_ON:
            self.at += 1
            return plain
        segments: list[str] = []
        if self.is_word(lexeme):
            segments = self.word_segments(lexeme)
            self.at += 1
        elif lexeme != "[":
            if not lexeme:
                self.fail("the filter ends where a rule is expected")
            turned = lexeme[0] in DIGITS or lexeme[0] in QUOTES
            self.fail("expected a member", "the member comes first: a == 1" if turned else None)
        while True:
            lexeme = self.lexemes[self.at]
            if lexeme == "[":
                segments.append(self.bracketed(first=not segments))
            elif lexeme == "." and segments:
                self.at += 1
                segments += self.later_segments()
            else:
                return tuple(segments)

    def bracketed(self, *, first: bool) -> str:
        self.at += 1
        lexeme = self.lexemes[self.at]
        if lexeme[:1] not in QUOTES:
            hint = 'write elems["odd name"]'
            if lexeme.isdigit():
                hint = (
                    "a list follows IN or CONTAINS" if first else f"an index is written a.{lexeme}"
                )
            self.fail("expected a string in the brackets", hint)
        self.at += 1
        self.expect("]", "the bracket is not closed")
        return unquoted(lexeme)

    def later_segments(self) -> list[str]:
        """The segments after a dot that follows a bracket; ``0.1`` is two indexes."""
        lexeme = self.lexemes[self.at]
        if self.is_word(lexeme):
            segments = self.word_segments(lexeme, first=False)
        elif re.fullmatch(r"[0-9]+(\.[0-9]+)?", lexeme):
            segments = lexeme.split(".")
        else:
            self.fail("expected a name or an index after the dot")
        self.at += 1
        return segments

    def word_segments(self, lexeme: str, *, first: bool = True) -> list[str]:
        """The segments of a lexeme of names and indexes with dots between."""
        segments = lexeme.split(".")
        if not lexeme.isalnum():
            segments = [segment.strip(BLANK) for segment in segments]
        if first and segments[0] in KEYWORDS:
            self.fail(
                f"{segments[0]} is a keyword and cannot begin a member",
                f'write ["{segments[0]}"] for a member of this name',
            )
        if not lexeme.isascii():
            for segment in segments:
                if not ((segment.isdigit() and segment.isascii()) or normal.is_identifier(segment)):
                    self.fail(
                        f"{segment!r} is no plain name", f'write it in brackets: ["{segment}"]'
                    )
        return segments

    # What kind of lexeme it is.

    def is_word(self, lexeme: str) -> bool:
        first = lexeme[:1]
        # Only MATCHES and ZIP with what follows them hold a "/" or "=" beside letters.
        return (first.isalpha() or first in NAME_SIGNS) and not ("/" in lexeme or "=" in lexeme)

    def starts_member(self, lexeme: str) -> bool:
        if lexeme == "[":
            return True
        if lexeme in WORDS or not self.is_word(lexeme):
            return False
        return not (lexeme in _CONSTRUCTORS and self.lexemes[self.at + 1] == "(")

    # What is wrong, and where.

    def expect(self, lexeme: str, problem: str, hint: str | None = None) -> None:
        if self.lexemes[self.at] != lexeme:
            self.fail(problem, hint)
        self.at += 1

    def checked(self, check: Callable[..., Any], *values: Any) -> Any:
        try:
            return check(*values)
        except FilterError as error:
            self.fail(error.problem, error.hint)

    def pattern(self, lexeme: str) -> tuple[str, str]:
        """Pattern and flags of the lexeme just passed."""
        start, end = lexeme.index("/"), lexeme.rindex("/")
        self.at -= 1
        flags = self.checked(normal.flags, lexeme[end + 1 :])
        found: tuple[str, str] = self.checked(normal.pattern, lexeme[start + 1 : end], flags)
        self.at += 1
        return found

    def fail(self, problem: str, hint: str | None = None) -> NoReturn:
        hint = hint or hint_for(self.lexemes[self.at])
        raise FilterSyntaxError(
            problem, text=self.text, offset=offset_of(self.text, self.at), hint=hint
        )


_COMPARISONS = frozenset(COMPARISONS)
_SPECIAL: dict[str, Callable[[_Reader], Filter]] = {
    "EXISTS": _Reader.exists,
    "HAS": _Reader.has,
    "AGE": _Reader.age,
    "MATCHES": _Reader.matches,
}
_OPERATORS: dict[str, Callable[[_Reader, Path], Filter]] = {
    "IN": _Reader.is_in,
    "CONTAINS": _Reader.contains,
    "WITHIN": _Reader.within,
    "%": _Reader.modulo,
}
_CONSTRUCTORS = frozenset(["Date", "Email", "ObjectId"])
