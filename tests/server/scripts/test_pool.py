"""Scripts in real child processes: what they return, what stops them, what they cannot reach."""

from __future__ import annotations

import threading

import pytest

from flowkit.errors import BadRequest
from flowkit.green import monotonic
from flowkit.server.scripts.pool import Script, ScriptPool

pytest.importorskip("quickjs", reason="scripts need the extra: pip install 'flowkit[js]'")

DROP = {"id": "d1", "path": "/nora/a", "elems": {"a": 1}}


def answered(script, name, args):
    """A library that says what it was asked."""
    if name == "Flow.get":
        raise BadRequest("first sentence", "second sentence")
    return {"account": script.account, "name": name, "args": args}


@pytest.fixture(scope="module")
def pool():
    """A pool of one child, so that every run follows another in the same process."""
    made = ScriptPool(answered, processes=1, time_s=20.0)
    yield made
    made.close()


@pytest.fixture(scope="module")
def hasty():
    """The same, for scripts that do not end; a machine at work may be slow with one that does."""
    made = ScriptPool(answered, processes=1, time_s=1.0)
    yield made
    made.close()


def run(pool, source, argument=DROP, **options):
    """One run."""
    return pool.run(Script(source, "nora"), argument, **options)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("function (d) { d.elems.b = d.elems.a * 3; return d.elems; }", {"a": 1, "b": 3}),
        ("function named(d) { return d.elems; }", {"a": 1}),
        ("// first\nfunction (d) { return 1; } // last", 1),
        ("function (d) { return 1; };  ", 1),
        ("function (d) { }", None),
        ("function (d) { return null; }", None),
        ("function (d) { return [1, 'x', true, {y: null}]; }", [1, "x", True, {"y": None}]),
        ("function (d) { return {at: new Date(5), no: undefined}; }", {"at": 5}),
        ("function (d) { return _.map([1, 2], function (x) { return x * 2; }); }", [2, 4]),
        ("function (d) { return _.VERSION.charAt(0); }", "4"),
        ("function (d) { return (function () { return this === undefined; })(); }", True),
        ("function (d) { var t = 0; for (var k in d.elems) t += d.elems[k]; return t; }", 1),
    ],
)
def test_a_function_returns_what_json_has(pool, source, value):
    """Programs of the time run as they stand (6.2, 6.3)."""
    outcome = run(pool, source)

    assert outcome.error is None
    assert outcome.value == value


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("function (d) {\n\n return null.x; }", "line 3: TypeError"),
        ("function (d) { return missing; }", "ReferenceError"),
        ("function (d) { return 0 / 0; }", "the result is not a finite number"),
        ("function (d) { return {a: {b: 1 / 0}}; }", "'b' is not a finite number"),
        ("function (d) { undeclared = 1; }", "ReferenceError"),
        ("5", "it is no function"),
        ("function (d) { return d +; }", "line 1: SyntaxError"),
        ("", "SyntaxError"),
        ("function (d) { throw new Flow.Error('mine', ['x']); }", "mine"),
        ("function (d) { while (true) { } }", "the script took longer than 1 s"),
        ("function (d) { for (;;) try { for (;;) ; } catch (e) { } }", "longer than 1 s"),
        ("function (d) { var a = []; for (;;) a.push(new Array(99999).fill(1)); }", "more memory"),
        ("function (d) { return 'x'.repeat(1e9); }", "more memory"),
        ("function (d) { return f(); function f() { return f(); } }", "stack overflow"),
        (
            "function (d) { return /(a+)+$/.test(new Array(40).join('a') + 'b'); }",
            "longer than 1 s",
        ),
    ],
)
def test_a_fault_is_one_sentence_and_the_next_run_is_sound(pool, hasty, source, said):
    """Of the script itself, by its own lines; whatever it did, the pool goes on."""
    pool = hasty if "longer" in said else pool
    outcome = run(pool, source)

    assert said in outcome.error
    assert "\n" not in outcome.error
    assert outcome.value is None
    assert run(pool, "function (d) { return d.elems.a; }").value == 1


@pytest.mark.parametrize(
    "expression",
    [
        "eval('1')",
        "(0, eval)('1')",
        "globalThis.eval('1')",
        "Function('return 1')()",
        "new Function('return 1')()",
        "(function () {}).constructor('return 1')()",
        "(() => 1).constructor('return 1')()",
        "(function* () {}).constructor('yield 1')().next()",
        "(async function () {}).constructor('return 1')()",
        "Flow.Drop.find.constructor('return 1')()",
        "Flow.constructor.constructor('return 1')()",
        "[].constructor.constructor('return 1')()",
        "require('fs')",
        "std.exit()",
        "os.exec(['ls'])",
        "__ask('Drop.find', '[]')",
    ],
)
def test_code_is_not_made_of_text_and_nothing_of_the_machine_is_there(pool, expression):
    """Neither directly nor by the constructors behind functions."""
    outcome = run(pool, f"function (d) {{ return {expression}; }}")

    assert outcome.error is not None
    assert outcome.value is None


def test_nothing_of_one_run_is_left_for_the_next(pool):
    """Neither globals nor prototypes nor what was done to the library."""
    spoiled = run(
        pool,
        "function (d) { globalThis.leak = d; Object.prototype.leak = 1; Array.prototype.map = null;"
        " JSON.parse = null; try { Flow.Drop.find = null; } catch (e) {} return 1; }",
    )
    after = run(
        pool,
        "function (d) { return [typeof leak, ({}).leak, typeof [].map, typeof JSON.parse,"
        " typeof Flow.Drop.find]; }",
    )

    assert spoiled.value == 1
    assert after.value == ["undefined", None, "function", "function", "function"]


def test_a_call_reaches_the_library_whatever_the_script_has_spoiled(pool):
    """Its arguments are JSON, and its answer is the value of the call."""
    source = (
        "function (d) { JSON.stringify = null; Array.prototype.slice = null;"
        " return Flow.Drop.find('/nora/a', {limit: 3}); }"
    )
    outcome = run(pool, source)

    asked = ["/nora/a", {"limit": 3}]
    assert outcome.value == {"account": "nora", "name": "Drop.find", "args": asked}
    assert outcome.calls == ({"call": "Drop.find", "args": asked},)


def test_a_refusal_is_thrown_as_the_librarys_error(pool):
    """With the first sentence as message and all of them as details (6.4)."""
    source = (
        "function (d) { try { Flow.Flow.get('x'); } catch (e) {"
        " return [e instanceof Flow.Error, e instanceof Error, e.message, e.details]; } }"
    )

    assert run(pool, source).value == [
        True,
        True,
        "first sentence",
        ["first sentence", "second sentence"],
    ]


def test_a_dry_run_fetches_nothing(pool):
    """It stands in the calls, and the script gets an error."""
    outcome = run(pool, "function (d) { return Flow.Http.get('http://e'); }", is_dry=True)

    assert "not done while a script is only tried" in outcome.error
    assert outcome.calls == ({"call": "Http.get", "args": ["http://e"]},)


def test_what_a_script_says_is_in_the_log(pool):
    """Words and values, an entry for each call."""
    outcome = run(pool, "function (d) { console.log('a', 1, d.elems); console.error('b'); }")

    assert outcome.log == ({"message": 'a 1 {"a":1}'}, {"message": "b"})


def test_a_task_says_its_request_and_makes_drops_of_the_answer(pool):
    """Also where the last parenthesis is missing, as in a text of the time (7.1)."""
    text = (
        "new Task({request: {uri: 'http://e/x', method: 'GET'}, callback: function (text) {"
        " return JSON.parse(text).map(function (r) { return {elems: {t: r}}; }); }}"
    )
    for source in (text, f"{text})", f"{text});"):
        script = Script(source, "nora")
        assert pool.task_request(script).value == {"uri": "http://e/x", "method": "GET"}
        assert pool.task_drops(script, "[1, 2]").value == [{"elems": {"t": 1}}, {"elems": {"t": 2}}]
    assert "makes no Task" in pool.task_request(Script("({})", "nora")).error


def test_a_hung_script_holds_up_none_in_another_child():
    """As many run side by side as there are processes."""
    with_two = ScriptPool(answered, processes=2, time_s=3.0)
    try:
        hung = threading.Thread(
            target=with_two.run, args=(Script("function (d) { while (true) {} }", "nora"), 1)
        )
        hung.start()
        begun = monotonic()
        value = with_two.run(Script("function (d) { return d; }", "nora"), 5).value
        took_s = monotonic() - begun
        hung.join()
    finally:
        with_two.close()

    assert value == 5
    assert took_s < 2.5


def test_a_closed_pool_runs_nothing_and_ends_what_runs():
    """The run under way fails at once."""
    closing = ScriptPool(answered, processes=1, time_s=30.0)
    outcomes = []
    started = threading.Event()

    def hang() -> None:
        started.set()
        script = Script("function (d) { while (true) {} }", "nora")
        outcomes.append(closing.run(script, 1))

    thread = threading.Thread(target=hang)
    thread.start()
    started.wait(10)
    while not closing._busy:
        started.wait(0.01)
    closing.close()
    thread.join(10)

    assert not thread.is_alive()
    assert outcomes[0].error is not None
    assert closing.run(Script("function (d) {}", "nora"), 1).error == "the server is stopping"
