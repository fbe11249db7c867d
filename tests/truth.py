"""The truth table of the filter language (``tests/corpus/truth_table.tsv``), read and shown.

``python tests/truth.py`` writes the page ``docs/reference/truth_table.rst`` anew from it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "corpus" / "truth_table.tsv"
PAGE = ROOT / "docs" / "reference" / "truth_table.rst"

NOW_MS = 1_000_000
"""The *now* of the table."""

HEADER = """\
The truth table
===============

What each rule says about each kind of value. The tests hold every line of this page against the
Python predicate, the SQL of the store, and the filter read back from its own text. *Now* is
1000000. An object is shown by its elements, or whole where it has a member ``elems``.

Four rules make most of the table: a rule about an absent member is false, except ``!=``, ``% x !=``
and ``== null``; ``!=`` is always the opposite of ``==``; nothing is converted to another type; a
list satisfies a comparison if one of its entries does. A text that is no filter, a pattern that
cannot be used and a postal code that nobody knows are refused (400), never a silent mismatch.
"""


@dataclass(frozen=True)
class Case:
    """One line: a filter text, the object as a Drop, as it is written, and whether it matches."""

    section: str
    text: str
    drop: dict[str, Any]
    written: str
    holds: bool


def cases() -> list[Case]:
    """Every line of the table."""
    found: list[Case] = []
    section = ""
    for line in DATA.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line and not line.startswith(("# ", "> ")):
            text, written, holds = line.split("\t")
            assert holds in ("yes", "no"), line
            given = json.loads(written)
            drop = given if "elems" in given else {"elems": given}
            found.append(Case(section, text, drop, written, holds == "yes"))
    return found


def rules() -> dict[str, list[str]]:
    """The sentences above each section, which say the rule that its lines show."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in DATA.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("> "):
            found.setdefault(section, []).append(line[2:])
    return found


def as_page() -> str:
    """The page of the documentation."""
    lines = [HEADER]
    said = rules()
    section = ""
    for case in cases():
        if case.section != section:
            section = case.section
            lines += [section, "-" * len(section), "", *said[section], ""]
            lines += [".. list-table::", "   :header-rows: 1", "   :widths: 45 45 10", ""]
            lines += ["   * - filter", "     - object", "     - matches"]
        lines += [f"   * - {_literal(case.text)}", f"     - {_literal(case.written)}"]
        lines += [f"     - {'yes' if case.holds else 'no'}"]
    text = "\n".join(lines) + "\n"
    for title in dict.fromkeys(case.section for case in cases()):
        text = text.replace(f"\n{title}\n---", f"\n\n{title}\n---", 1)
    return text


def _literal(text: str) -> str:
    return f"``{text}``" if text else "(the empty filter)"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(as_page(), encoding="utf-8")
