"""Reference tables made from the code's own tables, so that the pages cannot fall behind.

``.. flowkit-limits::`` lists every bound of ``flowkit/limits.py`` with its reason;
``.. flowkit-errors::`` lists every error class with its first sentence, as the tree they form.
"""

import ast
import inspect
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

import flowkit.errors
import flowkit.limits


def limits():
    """(name, value, reason) of every bound, in the order of the file."""
    tree = ast.parse(Path(flowkit.limits.__file__).read_text(encoding="utf-8"))
    for bound, reason in zip(tree.body, tree.body[1:], strict=False):
        target = bound.targets[0] if isinstance(bound, ast.Assign) else None
        if target is not None and isinstance(reason, ast.Expr):
            yield (
                target.id,
                getattr(flowkit.limits, target.id),
                inspect.cleandoc(reason.value.value),
            )


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


def setup(app):
    app.add_directive("flowkit-limits", Limits)
    app.add_directive("flowkit-errors", Errors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
