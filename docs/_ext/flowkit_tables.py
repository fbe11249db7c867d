"""Reference tables made from the code's own tables, so that the pages cannot fall behind.

``.. flowkit-limits::`` lists every bound of ``flowkit/limits.py`` and
``flowkit/device/bounds.py`` with its reason;
``.. flowkit-errors::`` lists every error class with its first sentence, as the tree they form;
``.. flowkit-protocol::`` lists every row of the route table with the scenarios that show it and
each of its parameters; ``.. flowkit-rules::`` lists rules of the protocol with their tests;
``.. flowkit-session:: server`` (or ``client``) draws the states of a session, its table below.
"""

import ast
import inspect
import sys
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from session_diagram import drawing, rows
from sphinx.util.docutils import SphinxDirective

import flowkit.device.bounds
import flowkit.errors
import flowkit.limits
from flowkit.protocol.session import Side


def limits():
    """(name, value, reason) of every bound, in the order of the files."""
    for module in (flowkit.limits, flowkit.device.bounds):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        for bound, reason in zip(tree.body, tree.body[1:], strict=False):
            target = bound.targets[0] if isinstance(bound, ast.Assign) else None
            if target is not None and isinstance(reason, ast.Expr):
                why = inspect.cleandoc(reason.value.value)
                yield target.id, getattr(module, target.id), why


def errors(base=flowkit.errors.FlowKitError, depth=0):
    """(depth, name, first sentence) of every error class, parents first."""
    yield depth, base.__name__, inspect.getdoc(base).splitlines()[0]
    for child in sorted(base.__subclasses__(), key=lambda kind: kind.__name__):
        if child.__module__ == flowkit.errors.__name__:
            yield from errors(child, depth + 1)


class _Table(SphinxDirective):
    def lines(self):
        raise NotImplementedError

    def run(self):
        node = nodes.container()
        self.state.nested_parse(StringList(list(self.lines()), "flowkit tables"), 0, node)
        return node.children


class Limits(_Table):
    def lines(self):
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 30 15 55", "")
        yield from ("   * - name", "     - value", "     - why")
        for name, value, reason in limits():
            shown = f"{value:_}" if isinstance(value, int) else str(value)
            yield from (
                f"   * - ``{name}``",
                f"     - {shown}",
                f"     - {' '.join(reason.split())}",
            )


class Errors(_Table):
    def lines(self):
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 35 65", "")
        yield from ("   * - class", "     - when")
        for depth, name, sentence in errors():
            indent = "\N{NO-BREAK SPACE}" * 4 * depth
            yield from (f"   * - {indent}``{name}``", f"     - {sentence}")


def _coverage():
    """The table that the tests are held to; it lies with them, beside this folder."""
    root = str(Path(__file__).parents[2])
    if root not in sys.path:
        sys.path.append(root)
    from tests.scenarios import coverage

    return coverage


def _cells(*cells):
    """One row of a list table; a cell is one line of text, or several lines for a list."""
    for at, cell in enumerate(cells):
        first, *rest = [cell] if isinstance(cell, str) else cell or [""]
        yield f"   {'*' if at == 0 else ' '} - {first}"
        yield from (f"       {line}" for line in rest)


def _sent(schema):
    """A few words for what is sent or answered."""
    if schema is None:
        return ""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    parts = schema.get("anyOf") or schema.get("oneOf")
    if parts:
        return " or ".join(_sent(part) for part in parts)
    if schema.get("type") == "array":
        return f"array of {_sent(schema.get('items', {})) or 'anything'}"
    if schema.get("maxProperties") == 0:
        return "``{}``"
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        return f"map of {_sent(values)}"
    if schema.get("properties"):
        return ", ".join(f"``{name}``" for name in schema["properties"])
    return schema.get("type", "anything")


class Protocol(_Table):
    def lines(self):
        from flowkit.server.shapes import bodies

        coverage = _coverage()
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 20 15 15 50", "")
        yield from _cells("route", "sent", "answered", "shown by")
        for row in coverage.rows():
            sent, answered = bodies(row.route)
            statuses = ", ".join(map(str, row.statuses))
            shown = [f"| {each.name}" for each in row.scenarios if not each.params]
            shown += [f"| ``{name}``: {each.name}" for name, each in sorted(row.params.items())]
            yield from _cells(
                f"``{row.route.method} /{row.route.pattern}``",
                _sent(sent),
                f"{_sent(answered)} ({statuses})",
                shown,
            )
        for address, test in coverage.UNVERSIONED_TESTS.items():
            yield from _cells(f"``{address}``", "", "", f"``{test}``")
        for address, why in coverage.NOT_YET.items():
            yield from _cells(f"``{address}``", "", "", f"not yet: {why}")


class Rules(_Table):
    def lines(self):
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 10 40 50", "")
        yield from _cells("section", "rule", "shown by")
        for section, rule, test in _coverage().RULES:
            yield from _cells(section, rule, f"``{test}``" if ".py" in test else test)


class Session(_Table):
    required_arguments = 1

    def lines(self):
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 12 16 12 34 26", "")
        yield from _cells("state", "what happens", "then", "what is done", "brought by time")
        for row in rows(Side(self.arguments[0])):
            yield from _cells(*row)

    def run(self):
        picture = nodes.raw("", drawing(Side(self.arguments[0])), format="html")
        return [picture, *super().run()]


def setup(app):
    app.add_directive("flowkit-session", Session)
    app.add_directive("flowkit-protocol", Protocol)
    app.add_directive("flowkit-rules", Rules)
    app.add_directive("flowkit-limits", Limits)
    app.add_directive("flowkit-errors", Errors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
