"""RSS tasks against a real server: each entry once, and only what is new is asked for."""

from __future__ import annotations

import sys

import pytest

from tests.server.tasks.waiting import ran

pytest.importorskip("feedparser", reason="tasks need the extra: pip install 'flowkit[tasks]'")

ITEM = (
    "<item><guid>{0}</guid><title>title {0}</title><link>https://e.org/{0}</link>"
    "<description>said {0}</description><author>a@e.org (Ann)</author><category>x</category>"
    "<category>y</category><pubDate>Tue, 21 Nov 2017 10:00:00 GMT</pubDate></item>"
)


def feed(*names: str) -> bytes:
    """A feed with the newest entry first, as feeds have them."""
    items = "".join(ITEM.format(name) for name in reversed(names))
    text = f'<rss version="2.0"><channel><title>t</title>{items}</channel></rss>'
    return text.encode()


@pytest.fixture
def task(nora, elsewhere):
    """A task that has run once, over two entries."""
    elsewhere.body = feed("one", "two")
    elsewhere.headers = {"ETag": '"v1"', "Last-Modified": "Tue, 21 Nov 2017 11:00:00 GMT"}
    nora.flow("/nora/news")
    body = {"url": f"{elsewhere.url}/feed", "destination": "/nora/news", "periodicity": 60_000}
    made = nora.ask("POST", "/rss", body)
    assert made.status == 201, made.errors
    return ran(nora, "rss", made.body["id"], 1)


def sink(nora):
    """The flow that the entries go to."""
    return nora.ask("GET", "/flow?filter=path%20%3D%3D%20%22%2Fnora%2Fnews%22").body[0]


def again(nora, task, times):
    """The task after a further run, in its time."""
    nora.clock.now_ms += 70_000
    changed = nora.ask("PUT", f"/rss/{task['id']}", {"description": f"wakes it {times}"})
    assert changed.status == 200
    return ran(nora, "rss", task["id"], times)


def test_each_entry_becomes_a_drop_oldest_first(nora, task):
    """With the elements of 7.2 and the guid as fhash."""
    drops = nora.drops(sink(nora))

    assert task["status"] == "OK"
    assert [drop["fhash"] for drop in drops] == ["one", "two"]
    assert drops[0]["elems"] == {
        "title": "title one",
        "link": "https://e.org/one",
        "description": "said one",
        "author": "a@e.org (Ann)",
        "guid": "one",
        "published": 1_511_258_400_000,
        "categories": ["x", "y"],
    }


def test_an_entry_does_not_come_back(nora, task, elsewhere):
    """What was imported once is not written again, not even after its Drop was deleted."""
    first, _ = nora.drops(sink(nora))
    assert nora.ask("DELETE", f"/drop/{sink(nora)['id']}/{first['id']}").status == 200
    elsewhere.body = feed("one", "two", "three")

    assert again(nora, task, 2)["status"] == "OK"
    assert [drop["fhash"] for drop in nora.drops(sink(nora))] == ["two", "three"]


def test_a_server_is_asked_only_for_what_is_new(nora, task, elsewhere):
    """The ETag and date of the last answer go along, and 304 is NO_NEW_DATA."""
    elsewhere.status, elsewhere.body = 304, b""

    assert again(nora, task, 2)["status"] == "NO_NEW_DATA"
    headers = elsewhere.asked[-1][2]
    assert headers["if-none-match"] == '"v1"'
    assert headers["if-modified-since"] == "Tue, 21 Nov 2017 11:00:00 GMT"
    assert "if-none-match" not in elsewhere.asked[0][2]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b"", "the server of the feed answered 500"),
        (200, b"<html>no feed</html>", "the answer cannot be read as a feed"),
        (200, b"", "the answer cannot be read as a feed"),
    ],
)
def test_what_is_no_feed_is_an_error_in_the_report(nora, task, elsewhere, status, body, said):
    """The task goes on, with what it remembered."""
    elsewhere.status, elsewhere.body = status, body

    assert again(nora, task, 2)["status"] == "ERROR"
    assert nora.drops({"id": task["reportFlowId"]})[-1]["elems"]["error"] == said
    assert len(nora.drops(sink(nora))) == 2


def test_without_the_extra_a_run_says_what_is_missing(nora, task, elsewhere, monkeypatch):
    """In its report, with the way out."""
    monkeypatch.setitem(sys.modules, "feedparser", None)

    assert again(nora, task, 2)["status"] == "ERROR"
    report = nora.drops({"id": task["reportFlowId"]})[-1]["elems"]
    assert report["error"] == "RSS is not enabled on this server (pip install 'flowkit[tasks]')"
