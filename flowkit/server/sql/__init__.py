"""Filters as SQL conditions, as far as SQL can say exactly the same; the rest stays for Python.

``translate.py`` takes a filter apart and finds each member's place; ``values.py`` says each rule
about one value inside a JSON column, in the dialect of SQLite (the seam for another one).

Source: protocol 4.2, 4.5.
"""

from flowkit.server.sql.translate import Translator
from flowkit.server.sql.values import Parameters, conjunction

__all__ = ["Parameters", "Translator", "conjunction"]
