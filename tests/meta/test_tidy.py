"""The budgets of the architecture page, checked: sizes, names, docstrings, dead modules.

An exception is listed here by name, with its reason.
"""

import ast
import re
from pathlib import Path

import pytest

import flowkit

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "flowkit"
MODULES = sorted(PACKAGE.rglob("*.py"))

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
POSITIONAL_MAX = 5

BANNED = {"utils", "util", "helpers", "common", "misc", "manager", "core", "impl"}

LONG_MODULES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
MANY_PARAMETERS: dict[str, str] = {
    "compat/flowthings.py:__init__": "the old constructor took nine, and old scripts give them so",
}


def named(path: Path) -> str:
    """A module's path below the package, for messages and for the lists above."""
    return str(path.relative_to(PACKAGE))


def functions(path: Path):
    """(qualified name, node) of every function in a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{named(path)}:{node.name}", node


def imports(path: Path):
    """Every dotted name that a module imports, or spells out for a late import."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_fits_in_a_head(path):
    """No module is longer than the budget, unless the list says why."""
    lines = len(path.read_text(encoding="utf-8").splitlines())

    assert lines <= MODULE_LINES_MAX or named(path) in LONG_MODULES


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_says_what_it_is(path):
    """Every module opens with a docstring whose first line is a sentence."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))

    assert docstring, "no docstring"
    assert re.search(r"[.:]$", docstring.split("\n\n")[0].strip()), (
        "the first paragraph is no sentence"
    )


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_function_fits_on_a_screen(path):
    """No function is longer than the budget, its docstring not counted."""
    for name, node in functions(path):
        docstring = ast.get_docstring(node, clean=False) or ""
        size = node.end_lineno - node.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)

        assert size <= FUNCTION_LINES_MAX or name in LONG_FUNCTIONS, f"{name} has {size} lines"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_function_takes_few_positional_parameters(path):
    """Beyond five, parameters are keyword-only."""
    for name, node in functions(path):
        given = [*node.args.posonlyargs, *node.args.args]
        count = sum(argument.arg not in ("self", "cls") for argument in given)

        assert count <= POSITIONAL_MAX or name in MANY_PARAMETERS, f"{name} takes {count}"


def test_no_room_is_named_for_nothing():
    """No module or package has a name that says nothing about what is in it."""
    names = {part.removesuffix(".py") for path in MODULES for part in path.relative_to(ROOT).parts}

    assert not names & BANNED


def test_every_module_is_used():
    """Each module is imported by another one, by the entry point, or is documented as public."""
    imported = {name for path in MODULES for name in imports(path)}
    documented = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "docs").rglob("*.rst"))
    unused = []
    for path in MODULES:
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        known = dotted.removesuffix(".__init__")
        if known in imported or known in documented or path.stem in ("__init__", "__main__"):
            continue
        unused.append(known)

    assert unused == []


def test_lists_of_exceptions_name_what_exists():
    """An exception that is no longer needed is taken off its list."""
    names = {named(path) for path in MODULES}
    known = names | {name for path in MODULES for name, _ in functions(path)}

    assert {*LONG_MODULES, *LONG_FUNCTIONS, *MANY_PARAMETERS} <= known


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda p: p.stem)
def test_every_test_says_what_is_true(path):
    """Each test function has a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert silent == []


def test_importing_flowkit_imports_neither_gevent_nor_requests():
    """The import of the package alone stays cheap: what is heavy comes on first use."""
    import subprocess
    import sys

    heavy = "gevent requests urllib3 websocket simplejson apsw re2 click".split()
    script = f"import sys, flowkit; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout

    assert shown.strip() == "[]"
    assert flowkit.__version__
