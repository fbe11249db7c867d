"""Filters as text for the wire, and as Python source.

``render`` writes exactly the strings of the table in protocol 4.7. Nothing a filter holds is pasted
as it is: names that are no identifiers go in brackets, texts are quoted and escaped, so no value
can end its literal early. Every text can be encoded as UTF-8.

``source`` writes Python that builds the same filter again with the names ``mem AGE EXISTS HAS
MATCHES NOT all_of any_of Filter``.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from typing import Any

from flowkit import limits
from flowkit.errors import FilterError, LimitError
from flowkit.query import normal
from flowkit.query.lexemes import PLAIN_CHARS_MAX, plain_path
from flowkit.query.nodes import (
    KEYWORDS,
    RANKS,
    Age,
    And,
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
    Not,
    Or,
    Path,
    Placeholder,
    Regex,
    Within,
    Zip,
)

__all__ = ["literal_text", "path_source", "path_text", "quoted", "render", "source"]

_ESCAPED = re.compile(r"""[\\'\x00-\x1f\x7f\ud800-\udfff]""")
_ESCAPED_DOUBLE = re.compile(r"""[\\"\x00-\x1f\x7f\ud800-\udfff]""")
_SHORT = {
    "\\": r"\\", "'": r"\'", '"': r"\"", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r",
    "\t": r"\t",
}  # fmt: skip
_SLASH = re.compile(r"(\\.)|/", re.DOTALL)
_INDEX = re.compile(r"[0-9]+")
_METHODS = frozenset(["re", "IN", "CONTAINS", "WITHIN"])
_CHAIN_MAX = 20
"""Operands up to which source() writes ``&``: Python bounds how deep operators nest."""


def render(filter: Filter) -> str:  # noqa: A002 - the glossary's word
    """The text of *filter* for the wire.

    Raises:
        FilterError: a value is not known yet.
        LimitError: the text is longer than a server takes.
    """
    written = _text(filter)
    if len(written) > limits.filter_text_chars_max:
        raise LimitError(
            "the text of the filter",
            size=len(written),
            limit=limits.filter_text_chars_max,
            unit="characters",
        )
    return written


def literal_text(value: object) -> str:
    """One value as it stands in a filter text."""
    if type(value) is str:
        return quoted(value)
    if value is None:
        return "null"
    if type(value) is bool:
        return "true" if value else "false"
    if isinstance(value, Placeholder):
        raise FilterError(
            f"a value is not known yet, used at {value.origin}",
            hint="give the filter to a call of the client, which waits for it",
        )
    return repr(value)


def quoted(value: str, quote: str = "'") -> str:
    """*value* as a string literal; nothing in it can end the literal."""
    pattern = _ESCAPED if quote == "'" else _ESCAPED_DOUBLE
    return quote + pattern.sub(_escape, value) + quote


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


def path_text(path: Path) -> str:
    """A member as it stands in a filter text."""
    plain = ".".join(path)
    if len(plain) < PLAIN_CHARS_MAX and plain_path(plain) == path:
        return plain
    written = [_first(path[0])]
    for segment in path[1:]:
        if segment and (normal.is_identifier(segment) or _INDEX.fullmatch(segment)):
            written.append("." + segment)
        else:
            written.append(_bracketed(segment))
    return "".join(written)


def _first(segment: str) -> str:
    if segment and segment not in KEYWORDS and normal.is_identifier(segment):
        return segment
    return _bracketed(segment)


def _bracketed(segment: str) -> str:
    return "[" + quoted(segment, '"') + "]"


def _pattern_text(pattern: object, flags: str) -> str:
    if not isinstance(pattern, str):
        return literal_text(pattern)  # raises: a placeholder
    return "/" + _SLASH.sub(lambda found: found[1] or r"\/", pattern) + "/" + flags


def _list_text(values: Any) -> str:
    if isinstance(values, Placeholder):
        return literal_text(values)
    return "[" + ",".join(map(literal_text, values)) + "]"


def _within_text(rule: Within) -> str:
    if isinstance(rule.place, Zip):
        code = rule.place.code
        place = f"[ZIP={code if normal.is_bare_zip(code) else quoted(code)}]"
    else:
        place = _list_text(rule.place)
    return f"{path_text(rule.path)} WITHIN {literal_text(rule.distance)} {rule.unit} OF {place}"


def _age_text(rule: Age) -> str:
    if rule.path is None:
        term = "AGE"
    elif all(segment and "." not in segment for segment in rule.path):
        term = f"AGE({quoted('.'.join(rule.path))})"
    else:
        term = f"AGE({path_text(rule.path)})"
    return f"{term} {rule.op} {literal_text(rule.ms)}"


def _modulo_text(rule: Modulo) -> str:
    divisor, remainder = literal_text(rule.divisor), literal_text(rule.remainder)
    return f"{path_text(rule.path)} % {divisor} {rule.op} {remainder}"


def _operand_text(operand: Filter) -> str:
    """An operand of NOT: a single rule stands bare, anything else in parentheses (4.7)."""
    return _text(operand) if operand.rank == RANKS["rule"] else f"({_text(operand)})"


def _chain_text(operands: tuple[Filter, ...], sign: str) -> str:
    return sign.join(f"({_text(operand)})" for operand in operands)


_TEXTS: dict[type[Filter], Callable[[Any], str]] = {
    Everything: lambda _: "",
    Comparison: lambda rule: f"{path_text(rule.path)} {rule.op} {literal_text(rule.value)}",
    MemberComparison: lambda rule: f"{path_text(rule.path)} {rule.op} {path_text(rule.other)}",
    Modulo: _modulo_text,
    Regex: lambda rule: f"{path_text(rule.path)} =~ {_pattern_text(rule.pattern, rule.flags)}",
    In: lambda rule: f"{path_text(rule.path)} IN {_list_text(rule.values)}",
    Contains: lambda rule: f"{path_text(rule.path)} CONTAINS {_list_text(rule.values)}",
    Within: _within_text,
    Exists: lambda rule: f"EXISTS {path_text(rule.path)}",
    Has: lambda rule: f"HAS {rule.type_name}",
    Age: _age_text,
    Matches: lambda rule: f"MATCHES {_pattern_text(rule.pattern, rule.flags)}",
    Not: lambda whole: f"NOT {_operand_text(whole.operand)}",
    And: lambda whole: _chain_text(whole.operands, " && "),
    Or: lambda whole: _chain_text(whole.operands, " || "),
}


def _text(part: Filter) -> str:
    return _TEXTS[type(part)](part)


# --- Python source -----------------------------------------------------------------------------


def source(filter: Filter) -> str:  # noqa: A002 - the glossary's word
    """Python that builds *filter* again; a value not known yet is shown, not written."""
    return _SOURCES[type(filter)](filter)


def path_source(path: Path) -> str:
    """A member as Python source: ``mem.elems['odd name']``."""
    return "mem" + "".join(map(_segment_source, path))


def _segment_source(segment: str) -> str:
    # Python folds non-ASCII names (NFKC) and mangles __names in classes; brackets do neither.
    if segment.isascii() and segment.isidentifier() and not segment.startswith("__"):
        if not keyword.iskeyword(segment) and segment not in _METHODS:
            return "." + segment
    elif not segment or "." in segment:
        return f"[{segment!r},]"
    return f"[{segment!r}]"


def _flags_source(flags: str) -> str:
    return f", {flags!r}" if flags else ""


def _values_source(values: Any) -> str:
    if isinstance(values, Placeholder):
        return repr(values)
    return "[" + ", ".join(map(repr, values)) + "]"


def _within_source(rule: Within) -> str:
    place = f"zip={rule.place.code!r}" if isinstance(rule.place, Zip) else f"coords={rule.place!r}"
    return f"{path_source(rule.path)}.WITHIN({rule.distance!r}, {rule.unit!r}, {place})"


def _age_source(rule: Age) -> str:
    term = "AGE" if rule.path is None else f"AGE({path_source(rule.path)})"
    return f"{term} {rule.op} {rule.ms!r}"


def _chain_source(operands: tuple[Filter, ...], sign: str, word: str) -> str:
    if len(operands) > _CHAIN_MAX:
        return f"{word}({', '.join(map(source, operands))})"
    return f" {sign} ".join(f"({source(operand)})" for operand in operands)


_SOURCES: dict[type[Filter], Callable[[Any], str]] = {
    Everything: lambda _: "Filter.parse('')",
    Comparison: lambda rule: f"{path_source(rule.path)} {rule.op} {rule.value!r}",
    MemberComparison: lambda r: f"{path_source(r.path)} {r.op} {path_source(r.other)}",
    Modulo: lambda r: f"{path_source(r.path)} % {r.divisor!r} {r.op} {r.remainder!r}",
    Regex: lambda r: f"{path_source(r.path)}.re({r.pattern!r}{_flags_source(r.flags)})",
    In: lambda rule: f"{path_source(rule.path)}.IN({_values_source(rule.values)})",
    Contains: lambda rule: f"{path_source(rule.path)}.CONTAINS({_values_source(rule.values)})",
    Within: _within_source,
    Exists: lambda rule: f"EXISTS({path_source(rule.path)})",
    Has: lambda rule: f"HAS({rule.type_name!r})",
    Age: _age_source,
    Matches: lambda rule: f"MATCHES({rule.pattern!r}{_flags_source(rule.flags)})",
    Not: lambda whole: f"NOT({source(whole.operand)})",
    And: lambda whole: _chain_source(whole.operands, "&", "all_of"),
    Or: lambda whole: _chain_source(whole.operands, "|", "any_of"),
}
