"""The budgets of the architecture page, checked: sizes, names, docstrings, dead modules.

Exceptions are listed here by name, each with its reason.
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
LONG = {"limits.py": "one flat table; there is nothing in it to keep in one's head"}
"""Modules that may be longer, and why."""
FUNCTION_LINES_MAX = 60
POSITIONAL_MAX = 5
NESTING_MAX = 3

BANNED = {"utils", "util", "helpers", "common", "misc", "manager", "core", "impl"}


def named(path: Path) -> str:
    """A module's path below the package, for messages."""
    return str(path.relative_to(PACKAGE))


def functions(path: Path):
    """(qualified name, node) of every function in a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{named(path)}:{node.name}", node


def code_lines(node):
    """The lines of a function, its docstring not counted."""
    docstring = ast.get_docstring(node, clean=False) or ""
    return node.end_lineno - node.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)


def positional(node):
    """How many parameters of a function can be given by position."""
    given = [*node.args.posonlyargs, *node.args.args]
    return sum(argument.arg not in ("self", "cls") for argument in given)


BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)


def nesting(node, level=0):
    """How deep blocks stand in one another; an ``elif`` stands beside its ``if``."""
    deepest = level
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        beside = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        inner = level + (isinstance(child, BLOCKS) and not beside)
        deepest = max(deepest, nesting(child, inner))
    return deepest


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
    """No module is longer than the budget."""
    lines = len(path.read_text(encoding="utf-8").splitlines())

    assert lines <= MODULE_LINES_MAX or named(path) in LONG


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
        size = code_lines(node)

        assert size <= FUNCTION_LINES_MAX, f"{name} has {size} lines"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_function_takes_few_positional_parameters(path):
    """Beyond five, parameters are keyword-only."""
    for name, node in functions(path):
        count = positional(node)

        assert count <= POSITIONAL_MAX, f"{name} takes {count}"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_function_is_shallow(path):
    """Blocks stand in one another three deep at most."""
    deep = [name for name, node in functions(path) if nesting(node) > NESTING_MAX]

    assert deep == []


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


SOURCES = [
    path
    for folder in ("flowkit", "tests", "examples", "docs")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_silences_a_tool_says_which_rule(path):
    """No bare ``noqa`` and no bare ``type: ignore``: each names its code."""
    bare = re.findall(
        r"# noqa(?!: [A-Z]).*|# ruff: noqa(?!: [A-Z]).*|# type: ignore(?!\[).*",
        path.read_text(encoding="utf-8"),
    )

    assert bare == [] or path == Path(__file__)


SQL_ROOMS = ("server/sql/", "server/store/", "server/plan.py", "device/")


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_sql_stands_in_its_rooms_only(path):
    """A statement is written in the store, ``server/sql``, the plan or the device's file only."""
    words = re.compile(r"\b(SELECT .+ FROM|INSERT INTO|DELETE FROM|UPDATE \w+ SET|CREATE TABLE)\b")
    found = [
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if words.search(node.value)
    ]

    assert found == [] or named(path).startswith(SQL_ROOMS)


KEPT_OUT = re.compile("/wor" + r"k/|/tmp/ven" + r"v|\bfar" + r"m-|\bissues sho" + "w")
"""Paths and tools of the place where this was written; split, so that this line is not one."""

MADE = {"__pycache__", "build", "dist", "_build", "htmlcov", "flowkit-data"}


def project_files():
    """Every file of the project that holds text; what tools and runs leave behind is left out."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = parts[0].startswith(".") and parts[0] not in (".ci", ".gitignore")
        if hidden or MADE & {*parts} or any(part.endswith(".egg-info") for part in parts):
            continue
        if path.is_file() and path.suffix not in (".gz", ".pyc"):
            yield path


def test_nothing_names_the_place_where_it_was_written():
    """The project runs anywhere, so no file of it names a machine's folders or tools."""
    named_in = [
        str(path.relative_to(ROOT))
        for path in project_files()
        if KEPT_OUT.search(path.read_text(encoding="utf-8", errors="replace"))
    ]

    assert named_in == []


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda p: p.stem)
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
