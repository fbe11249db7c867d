"""Sphinx: nitpicky, offline, every page's examples are run (``tox -e docs``)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from flowkit._version import __version__

project = "flowkit"
copyright = "2026, the flowkit authors"
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.doctest", "docstrings", "flowkit_tables"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"flowkit {version}"
nitpicky = True
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
doctest_global_setup = "from flowkit import *"
trim_doctest_flags = True
