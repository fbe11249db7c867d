"""Tokens, and where host, account and secret are looked up."""

import copy
import os
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from client.recording import Recorder

from flowkit import Token, connect, save_profile
from flowkit.client.credentials import find_profile, profiles_path
from flowkit.errors import SettingsError, UsageError

SECRET = "hush-0123456789"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A configuration folder of the test's own, and no settings in the environment."""
    for name in ("HOST", "ACCOUNT", "TOKEN", "PROFILE"):
        monkeypatch.delenv(f"FLOWKIT_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_a_token_is_a_pair_with_names():
    """It unpacks, compares, copies and pickles as the named tuple that it is."""
    token = Token("nora", SECRET)
    account, secret = token

    assert (account, secret) == ("nora", SECRET) == token
    assert (token.account, token.token) == token
    assert pickle.loads(pickle.dumps(token)) == copy.copy(token) == token
    assert isinstance(pickle.loads(pickle.dumps(token)), Token)


@pytest.mark.parametrize("show", [repr, str, "{}".format, lambda token: f"{[token]} {token!r}"])
def test_a_token_never_shows_its_secret(show):
    """No way of printing the token prints the secret."""
    shown = show(Token("nora", SECRET))

    assert "nora" in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("account", "secret"),
    [
        ("", SECRET),
        ("nora", ""),
        ("nora", SECRET + "\r\nX-Evil: 1"),
        ("no ra", SECRET),
        (3, SECRET),
        ("nora", None),
        ("nora", "grün"),
    ],
)
def test_a_token_that_no_header_can_carry_is_refused(account, secret):
    """Both parts go into headers; the error shows neither."""
    with pytest.raises(UsageError) as caught:
        Token(account, secret)

    assert "hush" not in str(caught.value)


BLUEMIX = '{"flowthings": [{"credentials": {"account": "nora", "token": "hush"}}]}'


def test_the_first_credentials_of_bluemix_are_used(monkeypatch):
    """The environment variable of a Bluemix process gives a token."""
    monkeypatch.setenv("VCAP_SERVICES", BLUEMIX)

    assert Token.from_bluemix() == ("nora", "hush")


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        '{"flowthings": []}',
        '{"flowthings": [{"credentials": {"account": 1, "token": null}}]}',
    ],
)
def test_without_bluemix_credentials_the_default_is_returned_whatever_it_is(monkeypatch, text):
    """A falsy default is a default too; without one there is an error that names the variable."""
    monkeypatch.delenv("OTHER", raising=False)
    if text is not None:
        monkeypatch.setenv("OTHER", text)

    for default in (None, "", Token("a", "b")):
        assert Token.from_bluemix(default, env_var="OTHER") is default
    with pytest.raises(SettingsError, match="OTHER"):
        Token.from_bluemix(env_var="OTHER")


def test_ctrl_c_is_not_taken_for_missing_credentials(monkeypatch):
    """Only what can be wrong with the variable is caught."""

    class Interrupted(dict):
        def __getitem__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "environ", Interrupted())

    with pytest.raises(KeyboardInterrupt):
        Token.from_bluemix(None)


def test_a_saved_profile_is_found_and_only_its_owner_can_read_it(home):
    """What was saved comes back, and the file has mode 0600 in a folder with mode 0700."""
    path = save_profile("home", "http://127.0.0.1:8080", "nora", "100%-$secret")
    save_profile("work", "flows.example.com", "nils", SECRET)

    found, where = find_profile("home")
    assert (found.host, found.account, found.token) == (
        "http://127.0.0.1:8080",
        "nora",
        "100%-$secret",
    )
    assert find_profile("work")[0].account == "nils"
    assert path == profiles_path() == home / "flowkit" / "profiles.ini"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert "home" in where
    assert "secret" not in repr(found)


def test_profiles_saved_at_the_same_time_are_all_kept(home):
    """No writer overwrites what another one has just added."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: save_profile(f"p{n}", "localhost", "nora", SECRET), range(24)))

    for n in range(24):
        assert find_profile(f"p{n}")[0].host == "localhost"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o660])
def test_a_profile_file_that_others_may_open_is_refused(home, mode):
    """The error says what to run."""
    path = save_profile("home", "localhost", "nora", SECRET)
    path.chmod(mode)

    for act in (lambda: find_profile("home"), lambda: save_profile("x", "h", "a", "t")):
        with pytest.raises(SettingsError, match=f"chmod 600 {path}"):
            act()


@pytest.mark.parametrize(
    "text",
    [
        "token = hush\n",
        "[a\nhush\n",
        "[a]\nhush hush\n",
        "[a]\nx=1\nx=hush\n",
        "[a]\n[a]\n",
        "\xff",
    ],
)
def test_a_broken_profile_file_shows_none_of_its_lines(home, text):
    """A line of the file may be a secret."""
    path = save_profile("home", "localhost", "nora", SECRET)
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(SettingsError) as caught:
        find_profile("home")

    assert str(path) in str(caught.value)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "host", "account", "token"),
    [
        ("", "h", "a", "t"),
        ("x]", "h", "a", "t"),
        ("DEFAULT", "h", "a", "t"),
        ("x", "h\n[y]", "a", "t"),
        ("x", "h", "a", "t\nhost=evil"),
        ("x", "h", "", "t"),
    ],
)
def test_a_profile_that_would_break_the_file_is_refused(home, name, host, account, token):
    """Names and values are single lines."""
    with pytest.raises(UsageError):
        save_profile(name, host, account, token)

    assert not profiles_path().exists()


def test_arguments_win_over_the_environment_and_that_over_the_file(home, monkeypatch):
    """Each of the three is looked up by itself, in this order."""
    save_profile("home", "file.example.com", "filed", "file-token")
    assert str(connect()) == "<API https://file.example.com as filed>"

    monkeypatch.setenv("FLOWKIT_HOST", "env.example.com")
    assert str(connect()) == "<API https://env.example.com as filed>"
    monkeypatch.setenv("FLOWKIT_ACCOUNT", "environed")
    monkeypatch.setenv("FLOWKIT_TOKEN", "env-token")
    api = connect()
    assert str(api) == "<API https://env.example.com as environed>"
    assert api.creds.token == "env-token"
    api = connect(host="localhost:1", account="argued", token="arg-token")
    assert str(api) == "<API http://localhost:1 as argued>"
    assert api.creds.token == "arg-token"


def test_a_secret_is_not_sent_with_another_account(home, monkeypatch):
    """An account from elsewhere does not take the profile's token with it."""
    save_profile("home", "localhost", "nora", SECRET)
    monkeypatch.setenv("FLOWKIT_ACCOUNT", "nils")

    with pytest.raises(SettingsError, match="does not know the token"):
        connect()
    with pytest.raises(SettingsError, match="does not know the token"):
        connect(account="nils")


def test_the_secret_of_the_environment_goes_with_its_account_only(home, monkeypatch):
    """An account in the call does not take the token of another one from the environment."""
    monkeypatch.setenv("FLOWKIT_ACCOUNT", "nora")
    monkeypatch.setenv("FLOWKIT_TOKEN", SECRET)
    assert connect(host="localhost", account="nora").creds == ("nora", SECRET)
    with pytest.raises(SettingsError, match="does not know the token"):
        connect(host="localhost", account="nils")
    monkeypatch.delenv("FLOWKIT_ACCOUNT")
    assert connect(host="localhost", account="nils").creds == ("nils", SECRET)


def test_a_file_that_is_not_needed_is_not_read(home, monkeypatch):
    """With everything in the environment a broken file does not matter."""
    save_profile("home", "localhost", "nora", SECRET).chmod(0o644)
    for name, value in (("HOST", "localhost:5"), ("ACCOUNT", "nora"), ("TOKEN", "t")):
        monkeypatch.setenv(f"FLOWKIT_{name}", value)

    assert connect().creds == ("nora", "t")
    with pytest.raises(SettingsError, match="chmod"):
        connect("home")


def test_with_a_transport_no_host_is_missing(home):
    """``connect(transport=…)`` needs account and token only."""
    recorder = Recorder()

    assert repr(connect(transport=recorder, account="nora", token="t")) == "<API Recorder as nora>"
    with pytest.raises(SettingsError, match="does not know the account and token"):
        connect(transport=recorder)


def test_without_any_setting_all_three_ways_are_said(home):
    """The error names the arguments, the variables and the profile."""
    with pytest.raises(SettingsError) as caught:
        connect()

    for way in (
        "host=",
        "account=",
        "token=",
        "FLOWKIT_HOST",
        "FLOWKIT_TOKEN",
        "profiles.ini",
        "--save-profile",
    ):
        assert way in str(caught.value)


def test_the_profile_that_is_meant(home, monkeypatch):
    """A name, else FLOWKIT_PROFILE, else ``default``, else the only one there is."""
    save_profile("one", "one.example.com", "nora", SECRET)
    assert find_profile()[0].host == "one.example.com"
    save_profile("two", "two.example.com", "nora", SECRET)
    assert find_profile()[0].host is None
    assert "several profiles (one, two)" in find_profile()[1]
    monkeypatch.setenv("FLOWKIT_PROFILE", "two")
    assert find_profile()[0].host == "two.example.com"
    assert find_profile("one")[0].host == "one.example.com"
    monkeypatch.delenv("FLOWKIT_PROFILE")
    save_profile("default", "d.example.com", "nora", SECRET)
    assert find_profile()[0].host == "d.example.com"
    with pytest.raises(SettingsError, match="it has: one, two, default"):
        find_profile("three")


def test_without_a_configuration_variable_the_file_is_below_the_home_folder(monkeypatch, tmp_path):
    """``~/.config`` stands in for an unset, empty or relative XDG_CONFIG_HOME."""
    monkeypatch.setenv("HOME", str(tmp_path))

    for environ in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "relative"}):
        assert profiles_path(environ) == tmp_path / ".config" / "flowkit" / "profiles.ini"


def test_connect_names_an_unknown_option_before_anything_else(monkeypatch):
    """Not first what else is missing, with the misspelt word unsaid."""
    monkeypatch.delenv("FLOWKIT_HOST", raising=False)

    with pytest.raises(SettingsError, match="unknown option hots"):
        connect(hots="localhost")


def test_a_profile_file_that_cannot_be_read_is_named(monkeypatch, tmp_path):
    """The system's own error does not come through bare."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    profiles_path().mkdir(parents=True)

    with pytest.raises(SettingsError, match=r"profiles\.ini cannot be read: Is a directory"):
        find_profile("home")
