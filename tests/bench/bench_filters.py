"""Parsing some 200 characters against lark; matching against a lambda and against closures."""

import operator
import re

import lark
from timing import best_of, show

from flowkit.query import nodes, parse
from flowkit.query.match import predicate

TEXT = (
    "(elems.mag >= 4.5) && ((elems.place =~ /alaska|hawaii/i)"
    " || (location WITHIN 300 KM OF [24.17,121.65]))"
    " && (NOT (elems.type IN ['explosion','quarry blast']))"
    " && (EXISTS elems.felt) && (elems.depth < 70)"
)

GRAMMAR = r"""
?start: or
?or: and ("||" and)*
?and: unary ("&&" unary)*
?unary: "NOT" unary -> not | primary
?primary: "(" or ")" | "EXISTS" member -> exists | member "=~" REGEX -> regex
    | member "IN" list -> in | member "WITHIN" NUMBER UNIT "OF" list -> within
    | member COMPARE literal -> compare
member: NAME ("." NAME)*
list: "[" [literal ("," literal)*] "]"
?literal: NUMBER | STRING
COMPARE: "<=" | ">=" | "==" | "!=" | "<" | ">"
UNIT: "MILES" | "KM"
REGEX: /\/(\\.|[^\/\n])*\/[a-z]*/
STRING: /'(\\.|[^'])*'/
NUMBER: /-?\d+(\.\d+)?/
NAME: /[A-Za-z_$][\w$-]*/
%ignore /\s+/
"""

EVENT = {
    "id": "d5a2c12009b1e4d7a6c3f0031",
    "path": "/demo/quakes/ak",
    "creationDate": 1517966773840,
    "location": {"lat": 63.8, "lon": -149.1},
    "elems": {
        "mag": 4.7,
        "place": "32km W of Healy, Alaska",
        "type": "earthquake",
        "depth": 12.5,
        "felt": 3,
    },
}

RULES = {
    "mag >= 4.5": lambda drop: drop["elems"]["mag"] >= 4.5,
    "mag >= 4.5 && depth < 70": lambda drop: (
        drop["elems"]["mag"] >= 4.5 and drop["elems"]["depth"] < 70
    ),
    "type == 'earthquake' || depth > 500": lambda drop: (
        drop["elems"]["type"] == "earthquake" or drop["elems"]["depth"] > 500
    ),
}

OPERATORS = {"==": operator.eq, "<": operator.lt, ">": operator.gt, ">=": operator.ge}


def closure(node):
    """The design that was not taken: every node a closure over its operands."""
    if isinstance(node, nodes.And | nodes.Or):
        parts = [closure(operand) for operand in node.operands]
        join = all if isinstance(node, nodes.And) else any
        return lambda drop: join(part(drop) for part in parts)
    name, compare, value = node.path[-1], OPERATORS[node.op], node.value
    return lambda drop: compare(drop["elems"].get(name), value)


def uncached_parse(text: str):
    """Parse without the cache that the library keeps by text."""
    parse._cached.cache_clear()
    return parse.parse(text)


def main() -> None:
    """Print both comparisons."""
    oracle = lark.Lark(GRAMMAR, parser="lalr")
    print(f"parse {len(TEXT)} characters")
    show(
        best_of(
            200,
            9,
            {
                "flowkit": lambda: uncached_parse(TEXT),
                "flowkit, cached": lambda: parse.parse(TEXT),
                "lark (LALR, tree only)": lambda: oracle.parse(TEXT),
            },
        ),
        "us",
        1e6,
    )
    for text, by_hand in RULES.items():
        rule = parse.parse(text)
        compiled, closed = predicate(rule), closure(rule)
        assert compiled(EVENT, 0) is by_hand(EVENT) is closed(EVENT)
        print(f"match {text}")
        show(
            best_of(
                20_000,
                9,
                {
                    "flowkit": lambda: compiled(EVENT, 0),  # noqa: B023 - called in this turn
                    "lambda by hand (no null, no absent)": lambda: by_hand(EVENT),  # noqa: B023
                    "closures": lambda: closed(EVENT),  # noqa: B023
                },
            ),
            "us",
            1e6,
        )
    assert re.search("Alaska", EVENT["elems"]["place"])


if __name__ == "__main__":
    main()
