"""Random graphs of dependent calls, made eagerly and lazily on twin worlds: the answers agree.

A graph is a list of steps; a step may use what came of earlier ones. It runs twice on one platform,
plainly and through ``api.lazy()``, each time in flows of its own; ids and times are replaced by
names before the answers are compared. An error is compared by its class, status and sentences.

``python -m tests.together.lazy_graphs --cases 100000`` is the campaign (``tox -e graphs``).
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from flowkit import API
from flowkit.embedded import embedded
from flowkit.errors import PlatformError

FLOWS = 3
STEPS_MAX = 14
NOBODY = "f" + 24 * "0"
WRITES = ("create", "update_flow", "update_drop")


@dataclass(frozen=True)
class Step:
    """One call.

    Attributes:
        verb: which, see ``_call``.
        flow: a reference to the flow that it is about.
        other: a reference to an object.
        options: filter and parameters.
    """

    verb: str
    flow: Any
    other: Any
    options: dict[str, Any]


# A reference is ("flow", n), ("odd", text), ("of", step, keys): a look-up in what a step answered.


def graph(seed: int) -> list[Step]:
    """A random one."""
    chance = random.Random(seed)
    steps: list[Step] = []
    for _ in range(chance.randint(2, STEPS_MAX)):
        step = _step(chance, steps)
        # Writes without a read between them run side by side, in no order; and a read whose
        # arguments fail may not even have been made.
        if step.verb in WRITES and any(one.verb in WRITES for one in steps):
            steps.append(Step("read", ("flow", 0), None, {}))
        steps.append(step)
    return steps


def _step(chance: random.Random, steps: list[Step]) -> Step:
    kinds = ["read", "read", "finds", "finds", "drop", "flows", "many", *WRITES]
    verb = chance.choice(kinds)
    options: dict[str, Any] = {}
    if verb in ("finds", "flows"):
        options["filter"] = chance.choice([None, "n > 1", "n >= 0 && n < 3", "n >", "EXISTS v"])
        options["limit"] = chance.choice([1, 2, 20, 20, -1])
    if verb in ("read", "finds", "drop"):
        options["refs"] = chance.choice([None, None, None, True])
    if chance.random() < 0.1:
        options["only"] = "id,path,elems"
    flow, other = _flow(chance, steps), _other(chance, steps)
    if verb == "flows" or (verb in ("drop", "update_drop") and other[0] == "of" == flow[0]):
        flow = ("flow", 0)  # with two look-ups it is not said which of them fails first
    return Step(verb, flow, other, options)


def _flow(chance: random.Random, steps: list[Step]) -> Any:
    found = [at for at, step in enumerate(steps) if step.verb in ("read", "update_flow")]
    if found and chance.random() < 0.4:
        return ("of", chance.choice(found), ("id",))
    found = [at for at, step in enumerate(steps) if step.verb == "finds"]
    if found and chance.random() < 0.4:
        return ("of", chance.choice(found), (0, "flowId"))
    if chance.random() < 0.1:
        return ("odd", chance.choice([NOBODY, "odd"]))
    return ("flow", chance.randrange(FLOWS))


def _other(chance: random.Random, steps: list[Step]) -> Any:
    finds = [at for at, step in enumerate(steps) if step.verb == "finds"]
    made = [at for at, step in enumerate(steps) if step.verb == "create"]
    if made and chance.random() < 0.5:
        return ("of", chance.choice(made), ("id",))
    if finds and chance.random() < 0.8:
        return ("of", chance.choice(finds), (chance.randrange(2), "id"))
    return ("odd", "d" + 24 * "0")


class World:
    """Flows of one run, with drops.

    Attributes:
        names: id to what it is called in every world.
        pairs: steps whose answer comes with references.
    """

    def __init__(self, api: API, place: str, steps: list[Step]) -> None:
        self.pairs = {at for at, step in enumerate(steps) if step.options.get("refs")}
        self.names: dict[str, str] = {}
        self.flows: list[str] = []
        for n in range(FLOWS):
            flow = api.flow.create({"path": f"/nora/{place}/f{n}"})["id"]
            self.flows.append(flow)
            self.names[flow] = f"flow{n}"
            for drop in api.drop(flow).create_many([{"elems": {"n": k}} for k in range(n + 2)]):
                self.names[drop["id"]] = f"drop{n}.{drop['elems']['n']}"
        self.place = place


def outcomes(world: World, steps: list[Step], calls: Any) -> list[Any]:
    """What making each step answers: a value or a thunk, or the error by which it was not made."""
    made: list[Any] = []
    for step in steps:
        try:
            made.append(_call(world, step, calls, made))
        except Exception as error:  # noqa: BLE001 - that is its outcome
            made.append(error)
    return made


def _looked_up(world: World, reference: Any, made: list[Any]) -> Any:
    kind, what, *keys = reference
    if kind == "flow":
        return world.flows[what]
    if kind == "odd":
        return what
    found = made[what]
    if issubclass(type(found), Exception):  # of a thunk, isinstance would read the value
        raise found
    if what in world.pairs:  # the answer and its references
        found = found[0]
    for key in keys[0]:
        found = found[key]
    return found


def _call(world: World, step: Step, calls: Any, made: list[Any]) -> Any:
    flow = _looked_up(world, step.flow, made)
    options = {name: value for name, value in step.options.items() if value is not None}
    verb = step.verb
    if verb == "read":
        return calls.flow.read(flow, **options)
    if verb == "finds":
        return calls.drop(flow).find(**options)
    if verb == "flows":
        return calls.flow.find_many(f"path == '/nora/{world.place}/f1'", **options)
    if verb == "many":
        return calls.flow.read_many([flow, world.flows[0], NOBODY], **options)
    if verb == "create":
        return calls.drop(flow).create({"elems": {"n": 9, "of": flow}}, **options)
    if verb == "update_flow":
        return calls.flow.update({"id": flow, "description": f"step {len(made)}"}, **options)
    other = _looked_up(world, step.other, made)
    if verb == "drop":
        return calls.drop(flow).read(other, **options)
    return calls.drop(flow).update({"id": other, "elems": {"n": len(made)}}, **options)


def _shown(world: World, at: int, settle: Callable[[Any], Any], one: Any) -> Any:
    try:
        if isinstance(one, Exception):
            raise one
        return _named(world, at, settle(one))
    except PlatformError as error:
        return (type(error).__name__, error.status, error.method, tuple(error.errors))
    except Exception as error:  # noqa: BLE001 - compared by its class; a missing key has its own
        return "KeyError" if isinstance(error, KeyError) else type(error).__name__


def _named(world: World, at: int, value: Any) -> Any:
    """*value* without ids and times."""
    if isinstance(value, dict):
        return {
            _named(world, at, key): _named(world, at, entry)
            for key, entry in value.items()
            if not key.endswith("Date") and key != "lastUpdated"
        }
    if isinstance(value, list | tuple):
        return [_named(world, at, entry) for entry in value]
    if isinstance(value, str):
        if len(value) == 25 and value not in world.names and value[1:] != 24 * "0":
            world.names[value] = f"new in step {at}"
        return world.names.get(value, value.replace(f"/{world.place}/", "/"))
    return value


def _unwrapped(thunk: Any) -> Any:
    return thunk.unwrap()


def difference(api: API, seed: int, options: dict[str, Any] | None = None) -> str | None:
    """What is different between the two runs of one graph; None if nothing is."""
    steps = graph(seed)
    eagerly, lazily = World(api, f"e{seed}", steps), World(api, f"l{seed}", steps)
    plain = outcomes(eagerly, steps, api)
    lazy = api.lazy(**options or {})
    if seed % 2:
        thunks = outcomes(lazily, steps, lazy)
    else:
        with lazy:
            thunks = outcomes(lazily, steps, lazy)
    expected = [_shown(eagerly, at, lambda value: value, one) for at, one in enumerate(plain)]
    got = [_shown(lazily, at, _unwrapped, one) for at, one in enumerate(thunks)]
    for at, (left, right) in enumerate(zip(expected, got, strict=True)):
        if left != right:
            return f"seed {seed}, step {at}, {steps[at]}:\n  eager {left}\n  lazy  {right}"
    return None


def campaign(first: int, last: int) -> list[str]:
    """The differences of a range of seeds."""
    found = []
    for start in range(first, last, 500):
        with embedded(account="nora") as api:
            ends = range(start, min(start + 500, last))
            found += [one for seed in ends if (one := difference(api, seed))]
    return found


def main() -> None:
    """Run the campaign; exit with 1 if there was any difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    began = time.monotonic()
    found: list[str] = []
    done = 0
    edges = range(chosen.first, chosen.first + chosen.cases, 1_000)
    with ProcessPoolExecutor(chosen.processes) as pool:
        ends = [min(edge + 1_000, chosen.first + chosen.cases) for edge in edges]
        for some in pool.map(campaign, edges, ends):
            found += some
            done += 1_000
            if done % 10_000 == 0:
                print(f"{done:,} graphs, {time.monotonic() - began:.0f} s", flush=True)
    for one in found[:20]:
        print(one)
    print(f"{chosen.cases:,} graphs in {time.monotonic() - began:.0f} s, {len(found)} differences")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
