"""A day of a real station through everything: device, file, faulty link, server, and back.

The minutes are messages of a JSON object each, the hours are messages of bytes. On the way the link
stalls, breaks and is refused by a plan that is drawn from a seed; the server is killed with
SIGKILL, and the device is switched off without a word. At the end each value is compared.
"""

from __future__ import annotations

import gzip
import signal
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from flowkit.device import Compression, DeviceClient
from flowkit.testing import FaultProxy
from tests.server_process import ServerProcess

RECORDING = Path(__file__).parents[1] / "corpus" / "surfrad-alamosa-2016-001.dat.gz"
QUANTITIES = (
    "down_solar up_solar direct_normal diffuse down_ir down_case up_dome up_ir up_case down_dome"
    " uvb par net_solar net_ir net_total temp humidity wind_speed wind_direction pressure"
).split()
MISSING = -9999.9
HOUR = 60
FAULTS = ("latency", "slice", "stall", "reset", "close", "reset_after", "close_after", "refuse")
"""All but those in which bytes are swallowed: the client finds these by its time-out of 30 s."""


def read_day() -> tuple[list[str], list[dict[str, Any]]]:
    """The lines of the minutes, and what they say; a value that is missing is left out."""
    lines = gzip.decompress(RECORDING.read_bytes()).decode("ascii").splitlines()[2:]
    day = []
    for line in lines:
        year, _, month, date, hour, minute, _, zenith, *measured = line.split()
        elems: dict[str, Any] = {
            "time": f"{year}-{int(month):02}-{int(date):02}T{int(hour):02}:{int(minute):02}Z",
            "zenith": float(zenith),
        }
        for name, value, flag in zip(QUANTITIES, measured[::2], measured[1::2], strict=True):
            if float(value) != MISSING:
                elems[name] = float(value)
            elems[f"{name}_flag"] = int(flag)
        day.append(elems)
    return lines, day


class Station:
    """The device: it sends what it is given, and can be switched off and on."""

    def __init__(self, token: str, file: Path, url: str) -> None:
        self._start = (f"nora/{token}", file, url)
        self.on()

    def on(self) -> None:
        """Start on its file."""
        self.client = DeviceClient.start("alamosa", *self._start, timeout=20)
        self._minutes = self.client.create_stream_sender("surfrad", "minutes")
        self._hours = self.client.create_stream_sender("surfrad", "hours", Compression.FASTEST)

    def off(self) -> int:
        """Stop without waiting for anything; what is left in the file."""
        return self.client.close(0).count

    def send(self, lines: list[str], day: list[dict[str, Any]]) -> None:
        """An hour: its minutes, then all of it as text."""
        for elems in day:
            self._minutes.enqueue_message(elems)
        self._hours.enqueue_message("\n".join(lines).encode("ascii"))


def read_back(api: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """What the platform has, in the order of its Flows: the elements, and the lines."""
    minutes = api.drop("/nora/streams/surfrad/minutes").find(order="asc", limit=10_000)
    hours = api.drop("/nora/streams/surfrad/hours").find(order="asc", limit=10_000)
    elems = [dict(drop["elems"]) for drop in minutes]
    assert {each.pop("_message")["device"] for each in elems} == {"alamosa"}
    pieces = [api.payload.read(drop["elems"]["_message"]["payload"]) for drop in hours]
    return elems, [line for piece in pieces for line in bytes(piece).decode("ascii").split("\n")]


def stream_day(
    station: Station, lines: list[str], day: list[dict[str, Any]], crash: threading.Thread
) -> list[int]:
    """All hours, with a breath after each fourth; what was queued at the kill and when it stopped.

    Without the breaths it would all be over within a second and a few requests.
    """
    queued = []
    for hour in range(24):
        part = slice(hour * HOUR, (hour + 1) * HOUR)
        station.send(lines[part], day[part])
        if hour % 4 == 3:
            assert station.client.wait_enqueued_messages_sent(30)
        if hour == 9:
            queued.append(station.client.pending_messages_count)
            crash.start()
        if hour == 17:
            queued.append(station.off())
            station.on()
    return queued


def kill_and_restart(server: ServerProcess, data: Path, more: list[ServerProcess]) -> None:
    """``kill -9``, then the same folder at the same port."""
    server.end(signal.SIGKILL)
    more.append(ServerProcess(data, "--port", str(urlsplit(server.url).port)))


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1])
def test_a_day_of_minutes_arrives_value_by_value(tmp_path, seed):
    """Nothing is missing, nothing is there twice, and everything is in order."""
    lines, day = read_day()
    data = tmp_path / "data"
    servers = [ServerProcess(data)]
    secret = str(servers[0].secret)
    try:
        with servers[0].connect() as api, FaultProxy(servers[0].url, seed=seed) as proxy:
            for name in ("minutes", "hours"):
                api.stream.create({"group": "surfrad", "name": name, "messageIdPattern": "{uuid}"})
            made = api.provisioning_token.create({"autoApprove": True})
            station = Station(made["provisioningToken"], tmp_path / "station.db", proxy.url)
            crash = threading.Thread(target=kill_and_restart, args=(servers[0], data, servers))
            how: Any = {"kinds": FAULTS, "every_s": (0.02, 0.15), "lasting_s": (0.05, 0.3)}
            with proxy.disturb(seed, 10.0, **how):
                assert sum(stream_day(station, lines, day, crash)) > 0, "nothing was on its way"
            crash.join()
            outbox = station.client.outbox
            assert (outbox.dead(), outbox.reports()) == ([], [])
            assert len(proxy.counts.faults) > 2, "the link was good"
            assert station.off() == 0
        with servers[1].connect(secret) as api:
            elems, text = read_back(api)
        assert len(elems) == len(day) == 24 * HOUR
        assert elems == day
        assert text == lines
    finally:
        for server in servers:
            server.__exit__()
