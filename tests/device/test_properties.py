"""The two documents of a device in its file: versions and generations, crashes, refusals."""

from __future__ import annotations

import os
from itertools import count
from types import SimpleNamespace

import pytest

from flowkit.device.outbox import Outbox
from flowkit.device.properties import REPORTED, DesiredProperties, Properties
from flowkit.errors import OutboxFull


@pytest.fixture
def path(tmp_path):
    """A file that is not there yet."""
    return str(tmp_path / "box.db")


def heard(version, values, generation="g1"):
    """What the platform answers."""
    desired = {"version": version, "values": values}
    return {"desired": desired, "reported": {"values": {}, "version": 0}, "generation": generation}


def queued(box):
    """The documents that wait to be sent."""
    return [row.entry for row in box.peek(REPORTED) if row.skip is None]


def change(version, values, generation="g1"):
    """What the Flow of the properties tells."""
    return {"kind": "desired", "version": version, "values": values, "generation": generation}


def test_a_lower_version_of_another_generation_is_news(path):
    """D7: the platform was restored, or the device made anew; in one generation it is only old."""
    told = []
    with Outbox(path) as box:
        properties = Properties(box, told.append)
        properties.hear_all(heard(7, {"rate": 7}))
        properties.hear_change(change(6, {"rate": 6}))
        properties.hear_change(change(7, {"rate": "other"}))
        assert properties.desired == DesiredProperties(7, {"rate": 7}, "g1")
        properties.hear_change(change(2, {"rate": 2}, "g2"))
    with Outbox(path) as box:
        assert Properties(box, told.append).desired == DesiredProperties(2, {"rate": 2}, "g2")
    assert [each.version for each in told] == [7, 2]


def test_what_is_read_whole_is_believed(path):
    """The platform's data was put back by hand: lower, or as high again by another way."""
    told = []
    with Outbox(path) as box:
        properties = Properties(box, told.append)
        for version, rate in ((7, 7), (7, 7), (5, 5), (5, "other")):
            properties.hear_all(heard(version, {"rate": rate}))
    assert [(each.version, each.values["rate"]) for each in told] == [(7, 7), (5, 5), (5, "other")]


class _Died(BaseException):
    """The process is gone."""


class _Mortal:
    """An outbox that dies before the write of a number."""

    def __init__(self, box, number):
        self._box = box
        self._left = number

    def __getattr__(self, name):
        found = getattr(self._box, name)
        if name not in ("keep", "replace", "put"):
            return found

        def write(*arguments, **more):
            if not self._left:
                raise _Died
            self._left -= 1
            return found(*arguments, **more)

        return write


def test_a_process_that_dies_in_an_update_reports_the_old_or_the_new_document(tmp_path):
    """Whichever write was the last; after the next start the file and the queue agree."""
    for number in count():
        path = str(tmp_path / f"{number}.db")
        with Outbox(path) as box:
            Properties(box, print).report({"n": 1})
            try:
                Properties(_Mortal(box, number), print).report({"n": 2})
                is_done = True
            except _Died:
                is_done = False
        with Outbox(path) as box:
            properties = Properties(box, print)
            properties.resume()
            (entry,) = queued(box)
            values = properties.reported.values
            assert entry == b'{"reported":{"values":{"n":%d}}}' % values["n"]
            assert values["n"] == 2 or not is_done
            assert properties.is_pending
        if is_done:
            assert number == 3
            return


def test_an_update_that_is_refused_leaves_what_was(path):
    """There is no room: an error, and neither the document nor its confirmation changes."""
    with Outbox(path, rows_max=1) as box:
        properties = Properties(box, print)
        properties.report({"n": 1})
        box.ack(box.peek(REPORTED))
        box.put("air", {"n": 0})
        with pytest.raises(OutboxFull):
            properties.report({"n": 2})
        assert properties.reported.values == {"n": 1}
        assert not properties.is_pending


def test_a_full_disk_does_not_keep_a_device_from_hearing(path, monkeypatch):
    """The document that the platform has lost is queued when there is room; the rest is heard."""
    with Outbox(path) as box:
        properties = Properties(box, print)
        properties.report({"n": 1})
        box.ack(box.peek(REPORTED))
        full = SimpleNamespace(f_frsize=1, f_bavail=0, f_blocks=1 << 40)
        with monkeypatch.context() as patch:
            patch.setattr(os, "statvfs", lambda _: full)
            properties.hear_all(heard(1, {"rate": 1}))
        assert properties.desired.version == 1
        assert queued(box) == []
        properties.hear_all(heard(1, {"rate": 1}))
        assert len(queued(box)) == 1


def test_what_was_dropped_or_refused_is_not_confirmed(path):
    """A dropped document is still to be sent; a refused one waits for nothing."""
    with Outbox(path, rows_max=1, when_full="drop oldest") as box:
        properties = Properties(box, print)
        properties.report({"n": 1})
        box.put("air", {"n": 0})
        assert queued(box) == []
        assert properties.is_pending
        assert not properties.reported.is_confirmed
        properties.hear_all(heard(0, {}))
        assert queued(box) == [b'{"reported":{"values":{"n":1}}}']
        box.bury(box.peek(REPORTED)[-1], "400 no")
        assert not properties.is_pending
        assert not properties.reported.is_confirmed
