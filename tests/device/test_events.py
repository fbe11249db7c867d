"""What a streamer makes of times, objects, buckets, ini files and CSV files."""

from __future__ import annotations

import enum
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from flowkit.client.credentials import Profile
from flowkit.device.buckets import bucket
from flowkit.device.flatten import check_key, flatten, plain
from flowkit.device.inifile import find
from flowkit.device.instants import event_ms
from flowkit.device.offline import Event, EventFile, read_events
from flowkit.errors import LimitError, SettingsError, UsageError

# Times


@pytest.mark.parametrize(
    ("epoch", "unit", "ms"),
    [
        (1_700_000_000, "s", 1_700_000_000_000),
        (1_700_000_000.25, "s", 1_700_000_000_250),
        (1_700_000_000.123456, "s", 1_700_000_000_123.456),
        (1_700_000_000_123, "ms", 1_700_000_000_123),
        (1_700_000_000_123_000_000, "ns", 1_700_000_000_123),
        (1_700_000_000_123_456_789, "ns", 1_700_000_000_123.4568),
        (0, "s", 0),
        (-1.5, "s", -1500),
        ("2026-11-21T15:04:05+00:00", "s", 1_795_273_445_000),
        ("2026-11-21T15:04:05.5Z", "s", 1_795_273_445_500),
        (
            datetime(2026, 11, 21, 16, 4, 5, tzinfo=timezone(timedelta(hours=1))),
            "s",
            1_795_273_445_000,
        ),
    ],
)
def test_a_moment_is_milliseconds_since_1970(epoch, unit, ms):
    """Whole numbers where they are whole."""
    assert event_ms(epoch, unit) == ms
    assert isinstance(event_ms(epoch, unit), type(ms))


@pytest.mark.parametrize(
    ("epoch", "unit"),
    [
        (1_700_000_000_000, "s"),
        (1_700_000_000_000_000_000, "ms"),
        (float("nan"), "s"),
        (float("inf"), "s"),
        ("1700000000", "s"),
        ("yesterday", "s"),
        (datetime(2026, 1, 1), "s"),
        ("2026-01-01T00:00:00", "s"),
        (True, "s"),
        ([1], "s"),
        (1, "minutes"),
        (10**400, "s"),
    ],
)
def test_what_is_no_moment_is_refused(epoch, unit):
    """It is never replaced by the present."""
    with pytest.raises(UsageError):
        event_ms(epoch, unit)


def test_no_moment_is_now():
    """In whole milliseconds."""
    assert abs(event_ms(None) - datetime.now(UTC).timestamp() * 1000) < 5000


# Objects

Point = namedtuple("Point", "x y")  # noqa: PYI024 - the kind that older scripts have


@dataclass
class Weather:
    """A dataclass, with something inside."""

    temp: float
    where: Point


class Sensor:
    """Attributes, a property, and what is not for others."""

    __slots__ = ("__dict__", "fixed")

    def __init__(self):
        self.temp = 21
        self.fixed = True
        self._secret = 5

    @property
    def double(self):
        """Computed."""
        return self.temp * 2

    def method(self):
        """Not a value."""


class Colour(enum.Enum):
    """A choice."""

    RED = "red"


@pytest.mark.parametrize(
    ("obj", "prefix", "found"),
    [
        ([1, "a"], None, {"list_0": 1, "list_1": "a"}),
        ((1, 2), "pair", {"pair_0": 1, "pair_1": 2}),
        ({"a": 1, 5: True}, None, {"dict_a": 1, "dict_5": True}),
        (OrderedDict(a=None), None, {"dict_a": None}),
        ({"a": 1}, "", {"a": 1}),
        ({3, 1, 2}, "", {"0": 1, "1": 2, "2": 3}),
        (range(2), None, {"list_0": 0, "list_1": 1}),
        (Point(1, 2), None, {"Point_x": 1, "Point_y": 2}),
        (
            Weather(1.5, Point(1, 2)),
            None,
            {"Weather_temp": 1.5, "Weather_where_x": 1, "Weather_where_y": 2},
        ),
        (Sensor(), None, {"Sensor_temp": 21, "Sensor_fixed": True, "Sensor_double": 42}),
        ({"a": {"b": [1, {"c": 2}]}}, "x", {"x_a_b_0": 1, "x_a_b_1_c": 2}),
        ({"a": [], "b": 1}, "", {"b": 1}),
        (
            [Decimal("1.5"), Decimal(3), Colour.RED, datetime(2026, 1, 1, tzinfo=UTC)],
            "",
            {"0": 1.5, "1": 3, "2": "red", "3": "2026-01-01T00:00:00+00:00"},
        ),
    ],
)
def test_an_object_is_taken_apart(obj, prefix, found):
    """By the keys that the older streamer gave, and everything that it left out."""
    assert flatten(obj, prefix) == found


def test_what_holds_itself_is_refused():
    """And so is what is nested too deeply, and what says one key twice."""
    endless = {}
    endless["me"] = endless
    deep = 1
    for _ in range(50):
        deep = [deep]
    for obj in (endless, deep, {"a": {"b": 1}, "a_b": 2}):
        with pytest.raises(UsageError):
            flatten(obj)
    with pytest.raises(LimitError):
        flatten(range(2000))


@pytest.mark.parametrize("obj", [5, "text", None, [], {}, object(), b"x", {"a": b"x"}, [1j]])
def test_what_has_no_values_is_refused(obj):
    """Rather than logging nothing without a word."""
    with pytest.raises(UsageError):
        flatten(obj)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), b"x", [1], {}, object(), 1j])
def test_what_is_no_value_is_refused(value):
    """The error names the key."""
    with pytest.raises(UsageError, match="'temp'"):
        plain(value, "temp")


@pytest.mark.parametrize("key", ["", "_time", 5, None, "x" * 251])
def test_a_key_is_a_text_of_its_own(key):
    """``_time`` is when the event was."""
    with pytest.raises(UsageError):
        check_key(key)


def test_numbers_of_numpy_are_numbers():
    """A mean comes out of it as one."""
    numpy = pytest.importorskip("numpy")

    assert plain(numpy.float64(1.5), "a") == 1.5
    assert flatten({"a": numpy.int32(3), "b": numpy.array([1, 2])}, "") == {
        "a": 3,
        "b_0": 1,
        "b_1": 2,
    }


# Buckets


def test_a_bucket_has_the_same_path_at_each_start():
    """A plain key stands in it; of the name alone the key is made."""
    assert bucket("nora", "Green", "house-1") == ("house-1", "Green", "/nora/buckets/house-1")
    assert bucket("nora", "My House", "") == bucket("nora", "My House", "My House")
    assert bucket("nora", "", "house") == ("house", "house", "/nora/buckets/house")


def test_different_keys_have_different_paths():
    """Though a path lacks most characters."""
    keys = [
        "House",
        "house",
        "hou se",
        "hou_se",
        "hou.se",
        "größe",
        "☀",
        "☁",
        "a/b",
        "x" * 250,
        "x" * 249,
    ]
    paths = {bucket("nora", "", key).path for key in keys}

    assert len(paths) == len(keys)
    from flowkit.protocol.resources import normal_path

    assert all(normal_path(path) == path for path in paths)


def test_a_bucket_must_be_named():
    """There is no new one at each start."""
    with pytest.raises(SettingsError, match="no bucket is named"):
        bucket("nora", "", "")
    with pytest.raises(LimitError):
        bucket("nora", "", "x" * 251)
    with pytest.raises(UsageError):
        bucket("nora", 5, "")


# Settings


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A home and a working directory of the test's own."""
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


HOME = """
[isstreamer.client_config]
access_key: of%home
account: homer
default_bucket: home bucket
offline_mode: False
[isstreamer.api_config]
stream_api_base: http://127.0.0.1:1
"""


def test_the_nearest_place_wins(places):
    """Argument, environment, working directory, home."""
    (places / "home" / "isstreamer.ini").write_text(HOME)
    found = find(Profile())
    assert (found.profile.host, found.profile.account) == ("http://127.0.0.1:1", "homer")
    assert (found.profile.token, found.bucket, found.offline) == ("of%home", "home bucket", False)

    (places / "here" / "isstreamer.ini").write_text("[isstreamer.client_config]\naccount: here\n")
    assert find(Profile()).profile.account == "here"
    assert find(Profile(), environ={"FLOWKIT_ACCOUNT": "env"}).profile.account == "env"
    given = find(Profile(account="arg"), environ={"FLOWKIT_ACCOUNT": "env"})
    assert given.profile.account == "arg"


def test_either_section_may_stand_alone(places):
    """And what switches a mode on is a word for yes, not any word but one."""
    (places / "x.ini").write_text("[isstreamer.api_config]\nstream_api_base: http://a\n")
    assert find(Profile(), file=places / "x.ini").profile.host == "http://a"
    for word, truth in (("False", False), ("TRUE", True), ("no", False), ("1", True)):
        (places / "x.ini").write_text(f"[isstreamer.client_config]\noffline_mode: {word}\n")
        assert find(Profile(), file=places / "x.ini").offline is truth
    (places / "x.ini").write_text("[isstreamer.client_config]\noffline_mode: perhaps\n")
    with pytest.raises(SettingsError):
        find(Profile(), file=places / "x.ini")


def test_a_file_that_is_not_there_or_none_is_an_error(places):
    """No line of it is shown."""
    with pytest.raises(SettingsError, match="there is no file"):
        find(Profile(), file=places / "x.ini")
    (places / "x.ini").write_text("secret-line\n")
    with pytest.raises(SettingsError) as told:
        find(Profile(), file=places / "x.ini")
    assert "secret" not in str(told.value)


def test_the_address_of_the_older_service_is_not_ours(places):
    """A file made for it sends nothing there."""
    (places / "x.ini").write_text(
        "[isstreamer.api_config]\nstream_api_base: https://groker.init.st\n"
    )
    assert find(Profile(), file=places / "x.ini").profile.host is None


def test_a_profile_that_is_named_is_taken_as_it_is(places):
    """Not mixed with the files of the older streamer."""
    from flowkit import save_profile

    save_profile("home", "http://p", "nora", "t0")
    (places / "here" / "isstreamer.ini").write_text(HOME)
    found = find(Profile(), profile="home").profile
    assert (found.host, found.account, found.token) == ("http://p", "nora", "t0")


# CSV


def test_events_in_a_file_keep_time_bucket_and_type(tmp_path):
    """The file is added to; each event is there at once."""
    path = str(tmp_path / "events.csv")
    first = EventFile(path)
    first.add(1_700_000_000_123.5, "k", 'My, "House"', {"a": 1, "b": True, "c": "1"})
    assert len(list(read_events(path))) == 1
    first.close()
    second = EventFile(path)
    second.add(1_700_000_000_124, "k", "n", {"a": None, "b": 1.5, "c": "line\nbreak ☀"})
    second.close()
    second.close()

    assert list(read_events(path)) == [
        Event(1_700_000_000_123.5, "k", 'My, "House"', {"a": 1, "b": True, "c": "1"}),
        Event(1_700_000_000_124, "k", "n", {"a": None, "b": 1.5, "c": "line\nbreak ☀"}),
    ]
    with pytest.raises(UsageError, match="closed"):
        second.add(1, "k", "n", {"a": 1})


def test_two_events_at_one_time_stay_two(tmp_path):
    """What has the same key was another call."""
    file = EventFile(str(tmp_path / "e.csv"))
    file.add(1, "k", "n", {"a": 1})
    file.add(1, "k", "n", {"a": 2})
    file.close()

    assert [event.elems for event in read_events(file.path)] == [{"a": 1}, {"a": 2}]


def test_files_of_the_older_streamer_are_read(tmp_path):
    """Epochs in seconds, or ISO text; numbers are numbers."""
    path = tmp_path / "old.csv"
    path.write_text(
        "1700000000.5,temp,21.5\n1700000001,on,True\n"
        '2015-10-08T07:54:00+06:00,"a, b",text\n1700000001,n,7\n1700000001,n,nan\n'
    )
    assert [(e.time_ms, e.elems) for e in read_events(str(path))] == [
        (1_700_000_000_500, {"temp": 21.5}),
        (1_700_000_001_000, {"on": True}),
        (1_444_269_240_000, {"a, b": "text"}),
        (1_700_000_001_000, {"n": 7}),
        (1_700_000_001_000, {"n": "nan"}),
    ]


def test_a_line_that_is_no_event_is_named(tmp_path):
    """And a file that is something else is not added to."""
    path = tmp_path / "x.csv"
    path.write_text("1700000000,temp,21\nnonsense\n")
    with pytest.raises(UsageError, match="line 2"):
        list(read_events(str(path)))
    with pytest.raises(UsageError, match="no file of a streamer"):
        EventFile(str(path))
