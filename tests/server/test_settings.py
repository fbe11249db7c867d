"""What can be set about a server, and which source wins."""

from pathlib import Path

import pytest

from flowkit.errors import SettingsError
from flowkit.server.settings import Settings


def test_flags_win_over_the_environment_over_the_file_over_the_defaults(tmp_path):
    """Each setting comes from the first source that names it."""
    file = tmp_path / "flowkit.ini"
    file.write_text("[server]\nport = 1\nhost = file\nsynchronous = OFF\nzip_lookup = no\n")
    environ = {"FLOWKIT_PORT": "2", "FLOWKIT_SYNCHRONOUS": "NORMAL", "PATH": "x"}

    found = Settings.load({"port": 3, "host": None}, environ=environ, file=file)

    assert (found.port, found.synchronous, found.host) == (3, "NORMAL", "file")
    assert (found.zip_lookup, found.account) == (False, Settings().account)


def test_what_says_where_a_client_goes_does_not_move_the_server():
    """``FLOWKIT_HOST`` and ``FLOWKIT_ACCOUNT`` belong to the client."""
    environ = {"FLOWKIT_HOST": "example.org", "FLOWKIT_ACCOUNT": "nora", "FLOWKIT_TOKEN": "x"}

    assert Settings.load(environ=environ) == Settings()


def test_values_are_converted():
    """Text becomes what the setting is."""
    environ = {"FLOWKIT_DATA": "/x", "FLOWKIT_QUERY_TIMEOUT_S": "2.5", "FLOWKIT_ZIP_LOOKUP": "off"}

    found = Settings.load(environ=environ)

    assert (found.data, found.query_timeout_s, found.zip_lookup) == (Path("/x"), 2.5, False)
    assert Settings.load({"data": "y"}).data == Path("y")


@pytest.mark.parametrize(
    "flags",
    [
        {"prot": 5},
        {"port": "x"},
        {"port": 70_000},
        {"synchronous": "MAYBE"},
        {"query_timeout_s": 0},
        {"zip_lookup": "perhaps"},
        {"body_bytes_max": -1},
    ],
)
def test_a_setting_that_does_not_fit_is_refused_by_name(flags):
    """The error names the setting and says what is allowed."""
    with pytest.raises(SettingsError, match=next(iter(flags))) as caught:
        Settings.load(flags)

    assert caught.value.hint


def test_an_unreadable_file_is_named(tmp_path):
    """A missing or broken file is an error, not silence."""
    broken = tmp_path / "broken.ini"
    broken.write_text("port = 5")

    for file in (tmp_path / "none.ini", broken):
        with pytest.raises(SettingsError, match=file.name):
            Settings.load(file=file)
