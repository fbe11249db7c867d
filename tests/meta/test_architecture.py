"""The map of the house is true: the tree of the architecture page, held against the package."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "flowkit"
PAGE = (ROOT / "docs/explanation/architecture.rst").read_text(encoding="utf-8")

UPWARD = {
    ("query/nodes.py", f"query/{name}.py")
    for name in ("build", "explain", "match", "misread", "parse", "render")
}
"""A filter offers these as methods and operators, and imports them when one is first used."""


def drawn():
    """Every path in the tree of the page, in its order, rebuilt from the indentation."""
    block = PAGE.split(".. code-block:: text", 1)[1].split("\n\nDocstrings", 1)[0]
    folders: list[tuple[int, str]] = []
    for line in block.splitlines():
        if not (entry := re.match(r"( +)(\S+?)(/?)(?: {2,}(\S.*))?$", line)):
            continue
        depth, name = len(entry[1]), entry[2]
        folders = [(at, folder) for at, folder in folders if at < depth]
        path = "".join(folder for _, folder in folders) + name
        if entry[3]:
            folders.append((depth, name + "/"))
        else:
            assert entry[4], f"{path} stands there without a word"
            yield path


def modules():
    """Every module of the package; of a folder's ``__init__`` the folder's own line speaks."""
    paths = [path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")]
    return {path for path in paths if path.count("/") == 1 or not path.endswith("/__init__.py")}


def imported(path):
    """The modules that *path* imports when it runs, as paths; names for types left out."""

    def statements(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            yield child
            yield from statements(child)

    for node in statements(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flowkit"):
            base = node.module.replace(".", "/")
            for name in node.names:
                if (ROOT / f"{base}/{name.name}.py").exists():
                    yield f"{base}/{name.name}.py"
                elif (ROOT / f"{base}.py").exists():
                    yield f"{base}.py"


def test_the_page_names_every_module_once_and_nothing_else():
    """A module that comes, goes or moves changes the page in the same commit."""
    shown = list(drawn())

    assert len(shown) == len(set(shown))
    assert set(shown) == modules()


def test_every_folder_has_its_line():
    """Each package of the package stands in the tree with what it is."""
    folders = {path.parent.name for path in PACKAGE.rglob("__init__.py")} - {"flowkit"}
    lines = set(re.findall(r"^ +(\w+)/ {2,}\S", PAGE, re.MULTILINE))

    assert folders == lines


@pytest.mark.parametrize("path", sorted(modules() - {"flowkit/__init__.py"}))
def test_arrows_of_the_tree_point_down(path):
    """A module imports only what stands below it on the page."""
    rank = {name: place for place, name in enumerate(drawn())}
    upward = {name for name in imported(path) if rank[name] < rank[path]}

    assert {
        (path.removeprefix("flowkit/"), name.removeprefix("flowkit/")) for name in upward
    } <= UPWARD


@pytest.mark.parametrize("name", sorted(set(re.findall(r"``([\w/]+\.py)``", PAGE))))
def test_every_file_that_the_page_mentions_exists(name):
    """A path in the text is below the package or the root."""
    assert (PACKAGE / name).exists() or (ROOT / name).exists()


GUARANTEES = (ROOT / "docs/explanation/guarantees.rst").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"``([\w/]+\.py)``", GUARANTEES))))
def test_every_test_that_shows_a_guarantee_exists(name):
    """The guarantees name test files below ``tests/``."""
    assert (ROOT / "tests" / name).exists()


@pytest.mark.parametrize("name", re.findall(r"tox -e (\w+)", GUARANTEES))
def test_every_campaign_is_an_environment_of_tox(name):
    """What the page says to run can be run."""
    assert f"[testenv:{name}]" in (ROOT / "tox.ini").read_text(encoding="utf-8")
