"""The public names of the package."""

import subprocess
import sys

import pytest

import flowkit

WANTED = [
    "AGE", "API", "EXISTS", "Filter", "HAS", "M", "MATCHES", "NOT", "P", "Request", "Token",
    "Streamer", "all_of", "any_of",
    "connect", "defaults", "dumps", "embedded", "loads", "mem", "save_profile",
    "BadRequest", "Conflict", "ConnectError", "ConnectionLost", "DeadlineExceeded", "FilterError",
    "FilterSyntaxError", "FlowKitError", "Forbidden", "LimitError", "NotFound", "OutboxError",
    "OutboxFull", "PlatformError",
    "ProtocolError", "ServerError", "SettingsError", "TooManyRequests", "TransportError",
    "UsageError",
]  # fmt: skip


def in_a_fresh_process(code):
    """What *code* prints in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", WANTED)
def test_every_promised_name_can_be_imported(name):
    """``from flowkit import <name>``, and ``dir`` and ``__all__`` list it."""
    assert getattr(flowkit, name) is not None
    assert name in flowkit.__all__
    assert name in dir(flowkit)


def test_every_listed_name_exists_and_no_error_is_forgotten():
    """The table of homes is true, and complete for the errors."""
    from flowkit import errors

    for name in flowkit.__all__:
        getattr(flowkit, name)
    classes = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert classes <= set(flowkit.__all__)


def test_an_unknown_name_is_an_attribute_error():
    """As for any module."""
    with pytest.raises(AttributeError, match="nonsense"):
        _ = flowkit.nonsense


HEAVY = "gevent requests websocket simplejson apsw re2 geventhttpclient urllib3".split()


@pytest.mark.slow
def test_importing_the_package_imports_nothing_heavy():
    """Neither gevent nor requests nor a WebSocket library, nor any other room of ours."""
    code = f"import sys, flowkit; print([m for m in sys.modules if m.split('.')[0] in {HEAVY}])"
    assert in_a_fresh_process(code) == "[]"
    code = "import sys, flowkit; print(sorted(m for m in sys.modules if m.startswith('flowkit')))"
    assert in_a_fresh_process(code) == "['flowkit', 'flowkit._version']"


@pytest.mark.slow
def test_building_filters_needs_no_network_library():
    """The language and the credentials work without gevent, requests and sockets."""
    code = (
        "import sys; from flowkit import mem, Token, M, dumps; str(mem.a == 1); "
        "print([m for m in ('gevent', 'requests', 'websocket') if m in sys.modules])"
    )
    assert in_a_fresh_process(code) == "[]"


@pytest.mark.slow
def test_the_websocket_library_is_not_imported_by_the_client():
    """Making an API does not need it."""
    code = (
        "import sys; from flowkit import API; API(('a', 'b'), host='localhost'); "
        "print('websocket' in sys.modules)"
    )
    assert in_a_fresh_process(code) == "False"


@pytest.mark.slow
def test_embedded_is_the_function_whatever_was_imported_first():
    """The module of the same name does not get in its way."""
    code = (
        "import flowkit.embedded, flowkit; from flowkit.embedded import AppTransport; "
        "from flowkit import embedded; print(callable(embedded), callable(flowkit.embedded))"
    )
    assert in_a_fresh_process(code) == "True True"
