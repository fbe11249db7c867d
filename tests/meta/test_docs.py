"""The reference pages cannot fall behind: what the code offers is named in them."""

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import flowkit.device.bounds
import flowkit.errors
from flowkit.query import nodes

DOCS = Path(__file__).parents[2] / "docs"


def page(name: str) -> str:
    """The source of a reference page."""
    return (DOCS / "reference" / f"{name}.rst").read_text(encoding="utf-8")


def test_every_operator_is_in_the_filter_reference():
    """Each operator and keyword of the language stands in the grammar of its page."""
    operators = [*nodes.COMPARISONS, "=~", "%", "&&", "||", *nodes.KEYWORDS]

    assert [word for word in operators if f'"{word}"' not in page("filters")] == []


def test_every_unit_of_distance_is_in_the_filter_reference():
    """Each unit of WITHIN occurs on the page."""
    assert [unit for unit in nodes.UNITS_KM if f'"{unit}"' not in page("filters")] == []


def test_every_error_says_when_it_is_raised():
    """Each error class has a docstring of its own; the errors page is made from them."""
    kinds = [
        kind
        for _, kind in inspect.getmembers(flowkit.errors, inspect.isclass)
        if issubclass(kind, flowkit.errors.FlowKitError)
    ]

    assert [kind.__name__ for kind in kinds if "__doc__" not in vars(kind)] == []
    assert ".. flowkit-errors::" in page("errors")


@pytest.mark.parametrize("module", [flowkit.limits, flowkit.device.bounds])
def test_every_limit_has_its_reason(module):
    """Each bound of the two files is followed by the sentence that the limits page shows."""
    tree = ast.parse(inspect.getsource(module))
    bounds = [node for node in tree.body if isinstance(node, ast.Assign)]
    reasons = [
        after
        for before, after in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(before, ast.Assign) and isinstance(after, ast.Expr)
    ]

    assert len(bounds) == len(reasons) > 0
    assert ".. flowkit-limits::" in page("limits")


def test_every_command_is_in_the_cli_reference():
    """Each command of the command line, with every option, occurs on its page."""
    click = pytest.importorskip("click", reason="needs the extra: pip install 'flowkit[server]'")
    from flowkit.cli import cli

    missing = []

    def walk(command, words):
        missing.extend(
            name
            for option in command.params
            if isinstance(option, click.Option)
            for name in option.opts
            if name.startswith("--") and name not in page("cli")
        )
        for name, child in getattr(command, "commands", {}).items():
            walk(child, [*words, name])
            if " ".join([*words, name]) not in page("cli"):
                missing.append(" ".join([*words, name]))

    walk(cli, ["flowkit"])

    assert missing == []


def test_every_public_name_is_documented():
    """Each name that `from flowkit import …` offers occurs in the documentation."""
    pages = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.rst"))
    errors = set(flowkit.errors.__all__)

    named = {
        name
        for name in flowkit.__all__
        if re.search(rf"(``|flowkit\.|import [\w, ]*)\b{name}\b", pages)
    }

    assert set(flowkit.__all__) - named - errors == set()


def test_every_route_is_in_the_protocol_reference_and_nothing_else():
    """The tables of requests are the table of routes, address by address."""
    pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")
    from flowkit.server.routes import ROUTES

    told = re.findall(r"^   \* - ``([A-Z]+ /[\w/<>-]+)``$", page("protocol"), re.MULTILINE)
    routes = [
        f"{route.method} /{route.pattern}".translate({123: "<", 125: ">"}) for route in ROUTES
    ]

    assert sorted(told) == sorted(routes)


def test_every_parameter_of_a_route_is_in_the_protocol_reference():
    """Each query parameter of any route occurs on the page."""
    pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")
    from flowkit.server.routes import ROUTES

    known = {name for route in ROUTES for name in route.known}

    assert sorted(name for name in known if f"``{name}``" not in page("protocol")) == []


def test_every_member_of_what_the_server_has_is_in_the_protocol_reference():
    """Each member of flows, drops and identities occurs on the page, or is one that all have."""
    pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")
    from flowkit.protocol.resources import RESOURCES
    from flowkit.server.fields import FIELDS

    members = {name for resource in FIELDS for name in RESOURCES[resource].members}

    assert sorted(name for name in members if f"``{name}``" not in page("protocol")) == []


def test_every_setting_of_a_server_is_in_the_cli_reference():
    """Each setting has its flag or its environment variable there."""
    pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")
    from flowkit.server.settings import Settings

    flags = {"host", "account"}
    names = {field.name for field in dataclasses.fields(Settings)}
    missing = [
        name
        for name in sorted(names)
        if (f"--{name}" if name in flags else f"FLOWKIT_{name.upper()}") not in page("cli")
    ]

    assert missing == []


BLOCKS = [
    pytest.param(textwrap.dedent(block), id=f"{path.stem}-{number}")
    for path in sorted(DOCS.rglob("*.rst"))
    for number, block in enumerate(
        re.findall(
            r"^ *\.\. code-block:: python\n((?:\n| +.*\n)+)",
            path.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_that_is_only_shown_is_python_and_imports_what_exists(block):
    """Blocks that no doctest runs are parsed, and their imports of flowkit are made."""
    pytest.importorskip("apsw", reason="needs the extra: pip install 'flowkit[server]'")
    imports = [
        node
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "flowkit"
    ]

    for node in imports:
        module = importlib.import_module(node.module)
        assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_shown_python_is_found():
    """The pattern above sees the blocks of the how-tos."""
    assert len(BLOCKS) > 4
