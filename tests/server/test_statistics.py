"""Statistics: periods and levels against a naive count, rights, and exact numbers."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowkit.errors import BadRequest
from flowkit.server.statistics import LEVELS, Period, added_up, read_level, read_period

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CREATED = datetime(2015, 5, 6, tzinfo=UTC)
NOW = datetime(2017, 12, 9, 16, 35, 50, tzinfo=UTC)
FORMS = {"YEAR": "%Y", "MONTH": "%Y-%m", "DAY": "%Y-%m-%d", "HOUR": "%Y-%m-%d %H"}


def ms_of(moment):
    """Milliseconds since 1970."""
    return int(moment.timestamp() * 1000)


def numbers(period, level, moments):
    """The answer of the code under test."""
    counts = Counter((moment - EPOCH) // timedelta(hours=1) for moment in moments)
    return added_up(counts, period.bounds(level, ms_of(CREATED), ms_of(NOW)))


def naive(period, level, moments):
    """Walk through every hour of the years and count by its name."""
    years = [period.year] if period.year else range(CREATED.year, NOW.year + 1)
    wanted = {"year": period.year, "month": period.month, "day": period.day}
    hour, end = (datetime(year, 1, 1, tzinfo=UTC) for year in (years[0], years[-1] + 1))
    at = LEVELS.index(level or LEVELS[period.finest])
    name = LEVELS[max(at, period.finest - 1)]
    found = Counter(moment.strftime(FORMS["HOUR"]) for moment in moments)
    answer = {}
    while hour < end:
        if all(value is None or getattr(hour, part) == value for part, value in wanted.items()):
            key = hour.strftime(FORMS[name])
            answer[key] = answer.get(key, 0) + found[hour.strftime(FORMS["HOUR"])]
        hour += timedelta(hours=1)
    return list(answer.values())


@st.composite
def periods(draw):
    """Nothing, a year, a month or a day; leap years and those without any count too."""
    moment = draw(st.datetimes(datetime(2014, 1, 1), datetime(2020, 12, 31)))
    parts = [moment.year, moment.month, moment.day][: draw(st.integers(0, 3))]
    return Period(*parts)


MOMENTS = st.lists(
    st.datetimes(datetime(2014, 6, 1), datetime(2018, 6, 1), timezones=st.just(UTC)), max_size=30
)


@settings(max_examples=25, deadline=None)
@given(periods(), st.sampled_from([None, *LEVELS]), MOMENTS)
def test_every_period_and_level_is_the_naive_count(period, level, moments):
    """Flattened or not, for any moments."""
    assert numbers(period, level, moments) == naive(period, level, moments)


@pytest.mark.parametrize(
    ("period", "level", "length"),
    [
        (Period(), None, 3),
        (Period(), "MONTH", 36),
        (Period(), "DAY", 365 + 366 + 365),
        (Period(2016), None, 12),
        (Period(2016), "DAY", 366),
        (Period(2015), "HOUR", 8_760),
        (Period(2016), "YEAR", 1),
        (Period(1900, 2), None, 28),
        (Period(2000, 2), None, 29),
        (Period(2016, 2), "HOUR", 29 * 24),
        (Period(2016, 2), "MONTH", 1),
        (Period(2016, 2, 29), None, 24),
        (Period(2016, 2, 29), "YEAR", 1),
        (Period(9999), None, 12),
        (Period(9999, 12), None, 31),
        (Period(9999, 12, 31), None, 24),
        (Period(1, 1, 1), "DAY", 1),
        (Period(3000), None, 12),
    ],
)
def test_how_many_numbers_there_are(period, level, length):
    """Finer flattens, equal or coarser is one number; the ends of the calendar are no edge."""
    assert numbers(period, level, []) == [0] * length


@pytest.mark.parametrize(
    "address", ["0", "10000", "2017/0", "2017/13", "2017/2/29", "2017/2/0", "x", "2017/x", "-1"]
)
def test_a_date_that_does_not_exist_is_refused(address):
    """400, naming the part."""
    args = dict(zip(("year", "month", "day"), address.split("/"), strict=False))
    with pytest.raises(BadRequest, match=list(args)[-1]):
        read_period(args)


def test_levels_are_read_in_any_case():
    """Absent is none."""
    assert [read_level(each) for each in ("hour", "Day", "MONTH", "", None)] == [
        "HOUR",
        "DAY",
        "MONTH",
        None,
        None,
    ]
    for odd in ("week", 3, ["DAY"]):
        with pytest.raises(BadRequest, match="level: must be one of YEAR, MONTH, DAY, HOUR"):
            read_level(odd)


@pytest.fixture
def flow(nora):
    """A flow of nora's."""
    return nora.ask("POST", "/flow", {"path": "/nora/a"}).body["id"]


def test_drops_are_counted_in_their_hour(nora, flow):
    """Creates and replaces count for flow and creator; refused ones and updates do not."""
    me = nora.ask("GET", "/identity").body[0]["id"]
    (before,) = nora.ask("GET", f"/statistics/dropCreatedBy/{me}").body
    for elems in ({"a": 1}, {"a": 2}):
        nora.ask("POST", f"/drop/{flow}", {"elems": elems, "fhash": "x"})
    nora.ask("POST", f"/drop/{flow}", {"elems": 5})
    nora.clock.now_ms += 3_600_000
    drop = nora.ask("POST", f"/drop/{flow}", {"elems": {}}).body["id"]
    nora.ask("PUT", f"/drop/{flow}/{drop}", {"elems": {"b": 1}})

    address = f"/statistics/flowDropAdded/{flow}"
    assert nora.ask("GET", f"{address}/2017/12/9").body == [0] * 16 + [2, 1] + [0] * 6
    assert nora.ask("GET", f"{address}?level=hour").body[24 * 342 + 16 :][:2] == [2, 1]
    assert nora.ask("GET", f"/statistics/dropCreatedBy/{me}").body == [before + 3]
    assert nora.ask("GET", f"{address}/2018").body == [0] * 12
    assert nora.ask("GET", f"{address}/2017/2/29").status == 400
    assert nora.ask("GET", f"{address}?levl=DAY").notes != []


def test_calls_are_exact_at_once(nora):
    """Every call that was answered is in the number, refused ones too, and so is the asking one."""
    me = nora.ask("GET", "/identity").body[0]["id"]
    address = f"/statistics/apiCallByIdentity/{me}"
    (before,) = nora.ask("GET", address).body
    for number in range(50):
        target = "/flow" if number % 2 else "/flow/nothing"
        nora.ask("GET", target)

    assert nora.ask("GET", address).body == [before + 51]


def test_who_may_see_statistics(nora, bob, flow):
    """Flows as flows are read; identities for their owner alone."""
    ids = [who.ask("GET", "/identity").body[0]["id"] for who in (nora, bob)]
    paths = {"/nora/a": {"dropRead": True}}
    made = nora.ask("POST", "/token", {"paths": paths}).body["tokenString"]
    token = {"x-auth-token": made}
    added, calls = f"/statistics/flowDropAdded/{flow}", "/statistics/apiCallByIdentity/"

    assert bob.ask("GET", added).status == 404
    assert nora.ask("GET", added, headers=token).status == 200
    assert nora.ask("GET", calls + ids[0], headers=token).status == 403
    assert nora.ask("GET", calls + ids[1], headers=token).status == 404
    assert bob.ask("GET", calls + ids[0]).status == 403
    assert bob.ask("GET", calls + "i" + "0" * 24).status == 404
    assert nora.ask("GET", f"/statistics/trackHit/{flow}").status == 404
    assert nora.ask("GET", f"/statistics/flowDropAdded/{ids[0]}").status == 404
    refused = nora.ask("GET", f"/statistics/drops/{flow}")
    assert (refused.status, refused.errors[0][:21]) == (400, "type: must be one of ")
