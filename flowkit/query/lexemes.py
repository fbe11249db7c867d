"""The text of a filter cut into pieces, and what single pieces stand for.

A lexeme is a plain string, told from others by its first character. What only one place can follow
(a regex after ``=~`` and ``MATCHES``, the raw code after ``ZIP=``, the dots of a member) is one
lexeme together with it, so the cutting needs no context. The first thing that is no lexeme takes
the rest of the text with it, which keeps the cutting linear; ``parse.py`` always stops there.
Offsets are found by cutting again, only when there is an error to report.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from flowkit.errors import FilterError
from flowkit.query import normal
from flowkit.query.nodes import KEYWORDS, Literal, Path

__all__ = [
    "BLANK",
    "DIGITS",
    "NAME_SIGNS",
    "PLAIN_CHARS_MAX",
    "QUOTES",
    "WORDS",
    "cut",
    "hint_for",
    "number",
    "offset_of",
    "plain_path",
    "unquoted",
]

_STRING = r""" "(?:[^"\\]|\\[\s\S])*+" | '(?:[^'\\]|\\[\s\S])*+' """
_NAME = r"(?: [^\W\d] | \$ ) [\w$-]*+"
_REGEX = r"/ (?: [^/\\\n] | \\[\s\S] )*+ / [^\W\d_]*+"
# The dots of a member are repeated greedily and not possessively: Python before 3.11.5 keeps what a
# failed last round of a possessive group has consumed (the dot in ``a.``). Nothing follows that
# could make it go back, so the cutting stays linear.
_TRUE = rf"""
        [<>=!]= | && | \|\| | [<>()\[\],%.]
      | MATCHES [ \t\r\n]*+ {_REGEX}
      | ZIP [ \t\r\n]*+ = [ \t\r\n]*+ (?: [^\W_] (?: [^\W_] | - )*+ | {_STRING} )
      | {_NAME} (?: [ \t\r\n]*+ \. [ \t\r\n]*+ (?: {_NAME} | [0-9]++ ) )*
      | -?[0-9]++ (?: \.[0-9]++ )? (?: [eE][+-]?[0-9]++ )?
      | {_STRING}
      | =~ [ \t\r\n]*+ {_REGEX}
"""
_WHOLE = re.compile(_TRUE, re.VERBOSE)
_LEXEME = re.compile(rf"[ \t\r\n]*+ ( {_TRUE} | [\s\S]++ )", re.VERBOSE)
BLANK = " \t\r\n"
_JUNK = "\0"
"""Begins the last lexeme if it is the rest after the last true one; begins no true lexeme."""

DIGITS = frozenset("-0123456789")
QUOTES = frozenset("\"'")
NAME_SIGNS = frozenset("_$")
PLAIN_CHARS_MAX = 64
"""Members from this length on are cut each time: the cache of members holds short ones."""
_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*(?:\.(?:[A-Za-z_$][A-Za-z0-9_$-]*|[0-9]+))*")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\s\S]))")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
WORDS: dict[str, Literal] = {"true": True, "false": False, "null": None}
_WORD_HINTS = {
    "and": "and is written &&",
    "AND": "and is written &&",
    "or": "or is written ||",
    "OR": "or is written ||",
    "not": "not is written NOT",
    "NOT": "NOT stands before the rule: NOT a IN [1,2]",
    "in": "write IN [1,2]",
    "is": "equality is ==",
    "like": "write =~ /pattern/",
    "exists": "keywords are upper case",
    "contains": "keywords are upper case",
    "within": "keywords are upper case",
}
_SIGN_HINTS = {
    "=": "equality is ==",
    "&": "and is written &&",
    "|": "or is written ||",
    "!": "not is written NOT",
    "~": "write =~ /pattern/",
    "\u00a0": "this is a no-break space, write a plain one",
    '"': "the string has no end",
    "'": "the string has no end",
    "\u201c": "quotes are \" or '",
    "\u2018": "quotes are \" or '",
    "/": "a regular expression follows =~ or MATCHES",
}


def cut(text: str) -> list[str]:
    """The lexemes of *text* and ``""`` for its end; the rest after the last true one is junk."""
    pieces: list[str] = _LEXEME.findall(text.rstrip(BLANK))
    if pieces and not _WHOLE.fullmatch(pieces[-1]):
        pieces[-1] = _JUNK + pieces[-1]
    pieces.append("")
    return pieces


def offset_of(text: str, at: int) -> int:
    """Where the lexeme number *at* begins in *text*."""
    starts = [found.start(1) for found in _LEXEME.finditer(text.rstrip(BLANK))]
    return starts[at] if at < len(starts) else len(text)


@lru_cache(maxsize=1_024)
def plain_path(lexeme: str) -> Path | None:
    """The path of a lexeme of ASCII names and dots; None for all that needs a closer look."""
    if _PLAIN.fullmatch(lexeme) is None:
        return None
    path = tuple(lexeme.split("."))
    return None if path[0] in KEYWORDS else path


def hint_for(lexeme: str) -> str | None:
    """What to write instead of *lexeme*, if it is a known slip."""
    if not lexeme.startswith(_JUNK):
        return _WORD_HINTS.get(lexeme)
    if lexeme.startswith("=~", 1):
        return "write =~ /pattern/ in one line, a slash inside as \\/"
    return _SIGN_HINTS.get(lexeme[1])


def number(lexeme: str) -> int | float:
    """The number that *lexeme* writes; refuses one that no 64 bits or float can hold."""
    if "." in lexeme or "e" in lexeme or "E" in lexeme:
        found = float(lexeme)
        if found in (math.inf, -math.inf):
            raise FilterError("the number is too large for a float")
        return found
    digits = lexeme.lstrip("-0")
    if len(digits) > 19:
        raise FilterError(
            "the whole number does not fit 64 bits",
            hint="whole numbers reach from -2**63 to 2**63 - 1",
        )
    return int(lexeme[0] + digits) if digits and lexeme[0] == "-" else int(digits or "0")


def unquoted(lexeme: str) -> str:
    """The text between the quotes, its escapes (protocol 4.3) undone."""
    inner = lexeme[1:-1]
    return normal.text(_ESCAPE.sub(_unescaped, inner) if "\\" in inner else inner)


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else _ESCAPES.get(found[2], found[2])
