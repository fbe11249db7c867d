"""Turns the sections of our docstrings (``Args:``, ``Raises:`` …) into lists for Sphinx.

A stand-in for napoleon that makes no cross-references: the nitpicky build would want a target for
each exception, and ours are documented in a table.
"""

import re

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns):")


def _process(*event):
    lines = event[-1]
    lines[:] = list(rewritten(lines))


def rewritten(lines):
    """The lines of a docstring, with a list in place of each section."""
    section = None
    for line in lines:
        if match := _SECTION.fullmatch(line):
            section = match[1]
            yield from ("", f"**{section}**", "")
        elif section is None or not line.strip():
            yield line
        elif not line.startswith("    "):
            section = None
            yield from ("", line)
        elif section == "Returns":
            yield line[4:]
        elif line.startswith("        "):
            yield "  " + line[8:]
        else:
            yield "* " + line[4:]


def setup(app):
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
