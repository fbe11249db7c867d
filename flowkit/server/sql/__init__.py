"""Filters as SQL conditions, as far as SQL can say exactly the same; the rest stays for Python.

``translate.py`` takes a filter apart and finds each member's place; ``values.py`` says each rule
about one value inside a JSON column, in the dialect of SQLite (the seam for another one).

``grouping.py`` makes an aggregation one statement; ``sieve.py`` reads objects in part.

Source: protocol 4.2, 4.5, 5.
"""

from flowkit.server.sql.grouping import Grouping
from flowkit.server.sql.sieve import Sieve, part_of, sieve_of
from flowkit.server.sql.translate import Translator
from flowkit.server.sql.values import Inexact, Parameters, conjunction

__all__ = [
    "Grouping",
    "Inexact",
    "Parameters",
    "Sieve",
    "Translator",
    "conjunction",
    "part_of",
    "sieve_of",
]
