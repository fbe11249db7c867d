"""The platform in the same process: where its data goes, who may enter, how it ends."""

import os
import subprocess
import sys
import threading

import gevent
import pytest

import flowkit
from flowkit import DeadlineExceeded, Forbidden, SettingsError, Token, UsageError, mem
from flowkit.embedded import AppTransport
from flowkit.protocol.envelope import Request, Response


@pytest.fixture
def api():
    """An API on a platform without a folder."""
    with flowkit.embedded() as opened:
        yield opened


def test_it_does_what_a_server_does(api):
    """Flows, drops and filters, without a socket."""
    flow = api.flow.create({"path": "/flowkit/a"})
    for n in range(5):
        api.drop(flow["id"]).create({"elems": {"n": n}})

    found = api.drop(flow["id"]).find(mem.elems.n > 2)

    assert sorted(drop["elems"]["n"] for drop in found) == [3, 4]


def test_many_threads_and_greenlets_may_use_one(api):
    """Writers of both kinds at once; every write is there."""
    flow = api.flow.create({"path": "/flowkit/a"})["id"]

    def write(n):
        api.drop(flow).create({"elems": {"n": n}})

    def write_in_greenlets(start):
        gevent.joinall([gevent.spawn(write, start + n) for n in range(10)], raise_error=True)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(10)]
    threads += [threading.Thread(target=write_in_greenlets, args=(n,)) for n in (10, 20)]
    for thread in threads:
        thread.start()
    write_in_greenlets(30)
    for thread in threads:
        thread.join(20)

    found = api.drop(flow).find(limit=100, only="elems")
    assert sorted(drop["elems"]["n"] for drop in found) == list(range(40))


def test_other_greenlets_run_while_one_waits(api):
    """A write waits for its commit cooperatively."""
    seen = []
    other = gevent.spawn(lambda: seen.append(1))

    api.flow.create({"path": "/flowkit/a"})

    other.join()
    assert seen == [1]


def test_without_a_path_nothing_is_left(tmp_path, monkeypatch):
    """The folder is private while it is there and gone after close; closing twice is fine."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    api = flowkit.embedded()
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    api.close()
    api.close()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["", "raise SystemExit(0)", "import gc; del api; gc.collect()"])
def test_without_a_path_nothing_is_left_at_the_interpreters_end(tmp_path, end):
    """Also if nobody has closed it."""
    script = (
        "import flowkit\napi = flowkit.embedded()\n"
        f"api.flow.create({{'path': '/flowkit/a'}})\n{end}"
    )
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True)

    assert (done.returncode, done.stderr) == (0, b"")
    assert list(tmp_path.iterdir()) == []


def test_with_a_path_the_data_stays(tmp_path):
    """Closed and opened again, the flow is there; the account's master token is never needed."""
    with flowkit.embedded(tmp_path / "data", account="nora") as api:
        flow = api.flow.create({"path": "/nora/a"})
    with flowkit.embedded(tmp_path / "data", account="nora") as api:
        assert api.flow.read(flow["id"]) == flow


def test_a_folder_belongs_to_one_platform(tmp_path):
    """A second one is refused and told who has it; after the first is closed it may."""
    first = flowkit.embedded(tmp_path)
    with pytest.raises(SettingsError, match=f"in use by process {os.getpid()}"):
        flowkit.embedded(tmp_path)
    first.close()
    flowkit.embedded(tmp_path).close()


def test_an_impossible_account_leaves_nothing(tmp_path, monkeypatch):
    """The name is refused, the temporary folder removed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SettingsError, match="account"):
        flowkit.embedded(account="No Such/Name")

    assert list(tmp_path.iterdir()) == []


def test_only_its_own_secret_opens_it(api):
    """Another token is refused, as over HTTP; the secret is in no repr."""
    secret = api.creds.token
    api.creds = Token("flowkit", "x" * 32)
    with pytest.raises(Forbidden):
        api.flow.find()

    assert secret not in repr(api)


def test_a_closed_one_says_so():
    """Using it afterwards is a UsageError, not a crash."""
    with flowkit.embedded() as api:
        pass
    with pytest.raises(UsageError, match="closed"):
        api.flow.find()


class Broken:
    """An application with a fault."""

    def handle(self, request):
        """Fail."""
        raise ZeroDivisionError("a secret inside")


def test_a_fault_of_the_application_is_an_answer(caplog):
    """As over HTTP: a 500 in the envelope for the caller, the traceback for the log."""
    response = AppTransport(Broken()).send(Request("GET", ()), timeout_s=1)

    assert response.status == 500
    assert b"secret" not in response.body
    assert "a secret inside" in caplog.text


def test_a_call_without_time_is_not_made():
    """A deadline that has passed before the call means that nothing happens."""

    class Counting:
        calls = 0

        def handle(self, request):
            self.calls += 1
            return Response(200)

    app = Counting()
    transport = AppTransport(app)
    with pytest.raises(DeadlineExceeded):
        transport.send(Request("GET", ()), timeout_s=0)

    assert app.calls == 0
    assert transport.send(Request("GET", ()), timeout_s=1).status == 200


@pytest.mark.slow
def test_a_fork_is_refused_and_leaves_the_platform_alone():
    """A forked child has none of the threads: it is told so at once, and its end closes nothing."""
    script = """if True:
        import os, sys, warnings, flowkit
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on: of a fork beside threads
        api = flowkit.embedded()
        flow = api.flow.create({"path": "/flowkit/a"})
        child = os.fork()
        if not child:
            try:
                api.flow.find()
            except flowkit.UsageError as error:
                print(error, flush=True)
            sys.exit(0)
        os.waitpid(child, 0)
        print(api.drop(flow["id"]).create({"elems": {"a": 1}})["elems"])
        """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30
    )
    refused, *after = done.stdout.splitlines()

    assert (after, done.stderr) == (["{'a': 1}"], "")
    assert "this is its fork" in refused


@pytest.mark.parametrize("wanted", ["flowkit.embedded()", "import flowkit.testing"])
@pytest.mark.parametrize("missing", ["apsw", "orjson"])
def test_without_the_extra_the_error_says_how_to_get_it(wanted, missing):
    """A base installation has the client; what needs the platform names the extra."""
    script = (
        f"import sys, flowkit; sys.modules[{missing!r}] = None; from flowkit import API; {wanted}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: the platform needs the module {missing}, which is not installed; "
        "install it with: pip install 'flowkit[server]'"
    )
