"""Java's regular expressions, rewritten for RE2 token by token.

The filter language promises Java's dialect (protocol 4.3); the engine is RE2 (``patterns.py`` says
why). ``translate`` reads a pattern by Java's rules and writes what RE2 needs for the same meaning:

* what both have in the same spelling is copied; what is spelled or meant differently is written out
  (``\\s`` holds the vertical tab, ``.`` stops at all of Java's line ends, ``\\v`` and ``\\h`` are
  classes, ``i`` alone folds ASCII only and ``iu`` folds Unicode, ``x`` strips blanks and comments,
  ``\\p{Alpha}`` is ASCII, ``$`` and ``\\Z`` also stand before a final line end);
* what RE2 cannot do is refused by name: look-around, back-references, possessive and atomic groups,
  ``\\G``, ``\\X``, ``\\b{g}``, ``&&`` in classes, ``\\p{javaX}``, blocks and binary properties.

Three differences stay, and are documented: with ``m`` the anchors know the line feed only; ``$``
may swallow the final line end, so nothing after it can match there; ``\\b`` is ASCII.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from flowkit import limits
from flowkit.errors import FilterError

__all__ = ["translate"]

_BLANKS = " \t\n\x0b\f\r"
_LINE_END = r"(?:\r\n|[\n\r\x{85}\x{2028}\x{2029}])"
_HORIZONTAL = r"\t \x{a0}\x{1680}\x{180e}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}"
_VERTICAL = r"\n\x0b\f\r\x{85}\x{2028}\x{2029}"
_CLASSES = {
    "d": "0-9",
    "s": r"\t\n\x0b\f\r ",
    "w": "0-9A-Z_a-z",
    "h": _HORIZONTAL,
    "v": _VERTICAL,
}
_POSIX = {
    "Lower": "a-z",
    "Upper": "A-Z",
    "ASCII": r"\x00-\x7f",
    "Alpha": "A-Za-z",
    "Digit": "0-9",
    "Alnum": "0-9A-Za-z",
    "Punct": r"!-/:-@\[-`{-~",
    "Graph": "!-~",
    "Print": " -~",
    "Blank": r" \t",
    "Cntrl": r"\x00-\x1f\x7f",
    "XDigit": "0-9A-Fa-f",
    "Space": r"\t\n\x0b\f\r ",
}
_CHARACTERS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "a": "\a", "e": "\x1b"}
_QUANTIFIER = re.compile(r"[?*+]|\{([0-9]+)(?:(,)([0-9]*))?\}")
_INLINE = re.compile(r"\?([a-zA-Z]*)(?:-([a-zA-Z]*))?([:)])")
_GROUP_NAME = re.compile(r"\?<[a-zA-Z][a-zA-Z0-9]*>")
_CODE = re.compile(
    r"x([0-9a-fA-F]{2})|x\{([0-9a-fA-F]{1,8})\}|u([0-9a-fA-F]{4})|0([0-3]?[0-7]{1,2})"
)
_PROPERTY = re.compile(r"\{(\^?[A-Za-z0-9_=]+)\}|([A-Z])")
_REFUSED_GROUPS = {
    "?=": "look-ahead (?=…)",
    "?!": "look-ahead (?!…)",
    "?<=": "look-behind (?<=…)",
    "?<!": "look-behind (?<!…)",
    "?>": "the atomic group (?>…)",
}


def translate(pattern: str, flags: str) -> tuple[str, int]:
    """The RE2 spelling of a Java *pattern*, and its size as ``limits.regex_size_max`` counts it.

    Args:
        pattern: as in the filter, ``\\/`` for a slash allowed.
        flags: letters of ``REGEX_FLAGS``.

    Raises:
        FilterError: the pattern is malformed, or uses a construct that RE2 lacks; names it and its
            place.
    """
    return _Translator(pattern, frozenset(flags)).run()


@dataclass
class _Level:
    """One open group: the flags to go back to, its size, and that of the piece read last."""

    flags: frozenset[str]
    size: int = 0
    piece_size: int = 0


@dataclass
class _Items:
    """A character class being read."""

    negated: bool
    text: list[str] = field(default_factory=list)


class _Translator:
    """Reads one pattern from left to right; ``at`` is the index of the next character."""

    def __init__(self, pattern: str, flags: frozenset[str]) -> None:
        self.pattern = pattern
        self.flags = flags - {"g"}
        self.at = 0
        self.written: list[str] = []
        self.levels = [_Level(self.flags)]
        self.repeatable = False

    def run(self) -> tuple[str, int]:
        while self.at < len(self.pattern):
            self._piece()
        if len(self.levels) > 1:
            raise self._refuse("a parenthesis is not closed")
        return "".join(self.written), self.levels[0].size

    # -- pieces of a pattern

    def _piece(self) -> None:
        letter = self.pattern[self.at]
        if "x" in self.flags and self._skip_blank(letter):
            return
        quantifier = _QUANTIFIER.match(self.pattern, self.at)
        if quantifier:
            self._quantifier(quantifier)
        elif letter == "(":
            self._open()
        elif letter == ")":
            self._close()
        elif letter == "|":
            self.at += 1
            self.written.append("|")
            self.repeatable = False
        else:
            self._atom(letter)

    def _atom(self, letter: str) -> None:
        if letter == "[":
            self.at += 1
            self._emit(self._class())
        elif letter == "\\":
            self.at += 1
            self._escape()
        elif letter == "{":
            raise self._refuse("a brace that is no repeat must be written \\{")
        else:
            self.at += 1
            self._emit(self._plain(letter))

    def _plain(self, letter: str) -> str:
        """What a character that is not escaped stands for."""
        if letter == "^":
            return "(?m:^)" if "m" in self.flags else r"\A"
        if letter == "$":
            return "(?m:$)" if "m" in self.flags else rf"{_LINE_END}?\z"
        if letter == ".":
            return "(?s:.)" if "s" in self.flags else r"[^\n\r\x{85}\x{2028}\x{2029}]"
        return self._literal(letter)

    def _emit(self, text: str) -> None:
        self.written.append(f"(?:{text})" if text.endswith(r"\z") else text)
        self.repeatable = True
        self.levels[-1].piece_size = 1
        self.levels[-1].size += 1

    def _skip_blank(self, letter: str) -> bool:
        """Whether a blank or comment was stripped, as the flag x asks."""
        if letter in _BLANKS:
            self.at += 1
            return True
        if letter == "#":
            while (
                self.at < len(self.pattern) and self.pattern[self.at] not in "\n\r\x85\u2028\u2029"
            ):
                self.at += 1
            return True
        return False

    def _quantifier(self, match: re.Match[str]) -> None:
        text = match[0]
        if not self.repeatable:
            raise self._refuse(f"{text} repeats nothing")
        level = self.levels[-1]
        if match[1]:
            times = max(int(match[1][:9]), int((match[3] or match[1])[:9]))
            level.size += level.piece_size * (times - 1)
            if level.size > limits.regex_size_max:
                raise self._refuse(
                    f"{text} makes it {level.size} characters with its repeats written out;"
                    f" the limit is {limits.regex_size_max}"
                )
        self.at = match.end()
        following = self.pattern[self.at : self.at + 1]
        if following == "+":
            raise self._refuse(f"the possessive quantifier {text}+")
        if following == "?":
            self.at += 1
            text += "?"
        self.written.append(text)
        self.repeatable = False

    # -- groups

    def _open(self) -> None:
        rest = self.pattern[self.at + 1 : self.at + 64]
        for opening, name in _REFUSED_GROUPS.items():
            if rest.startswith(opening):
                raise self._refuse(name)
        named, inline = _GROUP_NAME.match(rest), _INLINE.match(rest)
        if inline:
            self._inline(inline)
            return
        if rest.startswith("?") and not named:
            raise self._refuse(f"the group ({rest[:3]}…")
        # Nothing asks what a group caught, so none catches: RE2 is faster and smaller without.
        self._begin_group(self.flags, 1 + (named.end() if named else 0))

    def _begin_group(self, flags: frozenset[str], width: int) -> None:
        self.levels.append(_Level(self.flags))
        self.flags = flags
        self.at += width
        self.written.append("(?:")
        self.repeatable = False

    def _inline(self, match: re.Match[str]) -> None:
        """``(?i)``, ``(?i-s)`` and ``(?i:…)``."""
        on, off = match[1], match[2] or ""
        unknown = set(on + off) - set("imsux")
        if unknown:
            raise self._refuse(f"the inline flag {min(unknown)}")
        flags = (self.flags | set(on)) - set(off)
        if match[3] == ":":
            self._begin_group(flags, 1 + match.end())
        else:
            self.flags = flags
            self.at += 1 + match.end()
            self.repeatable = False

    def _close(self) -> None:
        if len(self.levels) == 1:
            raise self._refuse("a parenthesis closes nothing")
        inner = self.levels.pop()
        outer = self.levels[-1]
        self.flags = inner.flags
        self.at += 1
        self.written.append(")")
        self.repeatable = True
        outer.piece_size = inner.size
        outer.size += inner.size

    # -- escapes

    def _escape(self) -> None:
        letter = self.pattern[self.at : self.at + 1]
        if letter == "Q":
            self._quotation()
            return
        if letter in "AzbBZR" and letter:
            self.at += 1
            if letter == "b" and self.pattern.startswith("{g}", self.at):
                raise self._refuse(r"the boundary \b{g}")
            whole = {"Z": rf"{_LINE_END}?\z", "R": rf"(?:\r\n|[{_VERTICAL}])", "z": r"(?:\z)"}
            self._emit(whole.get(letter, "\\" + letter))
            return
        shown = self._class_escape(letter)
        if shown is not None:
            self._emit(f"[{shown}]")
            return
        self._emit(self._literal(self._character()))

    def _quotation(self) -> None:
        """``\\Q…\\E``: everything stands for itself."""
        end = self.pattern.find(r"\E", self.at)
        quoted = self.pattern[self.at + 1 : end if end >= 0 else len(self.pattern)]
        for character in quoted:
            self._emit(self._literal(character))
        self.at = end + 2 if end >= 0 else len(self.pattern)

    def _class_escape(self, letter: str) -> str | None:
        """The items that the escape *letter* stands for; None if it stands for one character."""
        if letter and letter.lower() in _CLASSES:
            self.at += 1
            items = _CLASSES[letter.lower()]
            return items if letter.islower() else _complement(items)
        if letter in ("p", "P"):
            self.at += 1
            return self._property(negated=letter == "P")
        return None

    def _property(self, *, negated: bool) -> str:
        match = _PROPERTY.match(self.pattern, self.at)
        if not match:
            raise self._refuse("\\p without a property")
        self.at = match.end()
        name = match[1] or match[2]
        if name in _POSIX:
            return _complement(_POSIX[name]) if negated else _POSIX[name]
        if name.startswith(("In", "block=", "blk=")):
            raise self._refuse(f"the Unicode block \\p{{{name}}}")
        plain = re.sub(r"^(?:Is|script=|sc=|general_category=|gc=)", "", name)
        if plain.startswith("java") or not _CATEGORY.fullmatch(plain):
            raise self._refuse(f"the property \\p{{{name}}}")
        return f"\\{'P' if negated else 'p'}{{{plain}}}"

    def _character(self) -> str:
        """The one character that the escape at hand stands for."""
        letter = self.pattern[self.at : self.at + 1]
        if not letter:
            raise self._refuse("a lone backslash at the end")
        code = _CODE.match(self.pattern, self.at)
        if code:
            self.at = code.end()
            return self._code_point(code)
        self.at += 1
        if letter in _CHARACTERS:
            return _CHARACTERS[letter]
        if letter == "c" and self.at < len(self.pattern):
            self.at += 1
            return chr(ord(self.pattern[self.at - 1]) ^ 64)
        if (letter.isascii() and letter.isdigit()) or letter == "k":
            raise self._refuse(f"the back-reference \\{letter}")
        if letter.isascii() and letter.isalpha():
            raise self._refuse(f"the escape \\{letter}")
        return letter

    def _code_point(self, match: re.Match[str]) -> str:
        number = int(match[4], 8) if match[4] else int(match[1] or match[2] or match[3], 16)
        if 0xD800 <= number < 0xDC00 and match[3]:
            low = (
                _CODE.match(self.pattern, self.at + 1)
                if self.pattern[self.at :][:1] == "\\"
                else None
            )
            if low and low[3] and 0xDC00 <= int(low[3], 16) < 0xE000:
                self.at = low.end()
                return chr(0x10000 + ((number - 0xD800) << 10) + int(low[3], 16) - 0xDC00)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise self._refuse(f"the character \\{match[0]}")
        return chr(number)

    # -- literals and classes

    def _literal(self, character: str) -> str:
        """A pattern for one character, by the rules of the flags i and u."""
        escaped = _item(character)
        if "i" not in self.flags:
            return escaped
        if "u" in self.flags:
            return f"(?i:{escaped})"
        other = character.swapcase()
        return (
            f"[{escaped}{_item(other)}]" if character.isascii() and other != character else escaped
        )

    def _class(self) -> str:
        """A character class, its opening bracket already read."""
        negated = self._takes("^")
        items = self._class_items(first=True)
        if not items:
            raise self._refuse("an empty class")
        text = "".join(items)
        shown = f"[^{text}]" if negated else f"[{text}]"
        return f"(?i:{shown})" if {"i", "u"} <= self.flags else shown

    def _class_items(self, *, first: bool) -> list[str]:
        """Items up to the closing bracket; a nested class that is not negated is a union."""
        items: list[str] = []
        depth = 1
        while depth:
            letter = self.pattern[self.at : self.at + 1]
            if not letter:
                raise self._refuse("a class is not closed")
            if "x" in self.flags and self._skip_blank(letter):
                continue
            if letter == "]" and not first:
                self.at += 1
                depth -= 1
            elif letter == "[":
                self.at += 1
                if self._takes("^"):
                    raise self._refuse("a negated class inside a class")
                depth += 1
                first = True
                continue
            elif self.pattern.startswith("&&", self.at):
                raise self._refuse("the intersection && in a class")
            else:
                items.append(self._class_item())
            first = False
        return items

    def _class_item(self) -> str:
        """One character, range, or escape of several characters."""
        if self._takes("\\"):
            if self.pattern.startswith("Q", self.at):
                return self._class_quotation()
            several = self._class_escape(self.pattern[self.at : self.at + 1])
            if several is not None:
                return several
            low = self._character()
        else:
            low = self._next()
        if not self._is_range():
            return self._folded(low, low)
        self.at += 1
        high = self._character() if self._takes("\\") else self._next()
        if high < low:
            raise self._refuse(f"the range {low}-{high} is upside down")
        return self._folded(low, high)

    def _is_range(self) -> bool:
        after = self.pattern[self.at + 1 : self.at + 2]
        return self.pattern[self.at : self.at + 1] == "-" and after not in ("", "]", "[")

    def _class_quotation(self) -> str:
        end = self.pattern.find(r"\E", self.at)
        quoted = self.pattern[self.at + 1 : end if end >= 0 else len(self.pattern)]
        self.at = end + 2 if end >= 0 else len(self.pattern)
        return "".join(self._folded(character, character) for character in quoted)

    def _folded(self, low: str, high: str) -> str:
        """A range, with its ASCII letters in both cases if the flag i stands alone."""
        text = _item(low) if low == high else f"{_item(low)}-{_item(high)}"
        if "i" not in self.flags or "u" in self.flags:
            return text
        for first, last in ("az", "AZ"):
            begin, end = max(low, first), min(high, last)
            if begin <= end:
                text += f"{_item(begin.swapcase())}-{_item(end.swapcase())}"
        return text

    # -- reading

    def _takes(self, letter: str) -> bool:
        found = self.pattern.startswith(letter, self.at)
        self.at += found
        return found

    def _next(self) -> str:
        if self.at >= len(self.pattern):
            raise self._refuse("a class is not closed")
        self.at += 1
        return self.pattern[self.at - 1]

    def _refuse(self, construct: str) -> FilterError:
        shown = self.pattern if len(self.pattern) <= 80 else self.pattern[:79] + "…"
        return FilterError(
            f"filter: the pattern /{shown}/ cannot be used: {construct},"
            f" near character {self.at + 1}",
            hint="patterns are Java's, without what needs to look around or back",
        )


def _item(character: str) -> str:
    """One character as itself, inside a class or outside."""
    if character.isalnum() and character.isascii():
        return character
    return f"\\x{{{ord(character):x}}}"


def _complement(items: str) -> str:
    """The items of a class that hold all characters but *items*."""

    held: list[tuple[int, int]] = []
    for match in re.finditer(
        r"(\\x\{[0-9a-f]+\}|\\x[0-9a-f]{2}|\\.|.)(?:-(\\x\{[0-9a-f]+\}|\\x[0-9a-f]{2}|\\.|.))?",
        items,
    ):
        low = _ordinal(match[1])
        held.append((low, _ordinal(match[2]) if match[2] else low))
    gaps, begin = [], 0
    for low, high in sorted(held):
        if begin < low:
            gaps.append(f"\\x{{{begin:x}}}-\\x{{{low - 1:x}}}")
        begin = max(begin, high + 1)
    if begin <= 0x10FFFF:
        gaps.append(f"\\x{{{begin:x}}}-\\x{{10ffff}}")
    return "".join(gaps)


def _ordinal(item: str) -> int:
    if item.startswith("\\x"):
        return int(item[2:].strip("{}"), 16)
    escapes = {"\\t": 9, "\\n": 10, "\\f": 12, "\\r": 13}
    return escapes[item] if item in escapes else ord(item[-1])


_CATEGORY = re.compile(
    "L[lmotu]?|M[cen]?|N[dlo]?|P[cdefios]?|S[ckmo]?|Z[lps]?|C[cfo]?"
    "|[A-Z].{2,}"  # what may be the name of a script: RE2 knows which exist
)
