"""Log events of a script; they arrive once, in order, whenever there is a network."""

import os
import tempfile
from dataclasses import dataclass

from flowkit import API, Streamer, mem
from flowkit.testing import Platform


@dataclass
class Weather:
    """What a weather station says at once."""

    temp: float
    wind: dict


with Platform() as platform, tempfile.TemporaryDirectory() as folder:
    where = {"host": platform.url, "account": platform.account, "access_key": platform.token.token}
    with Streamer("Greenhouse", db=os.path.join(folder, "events.db"), **where) as streamer:
        streamer.log("door", "open")
        streamer.log("temp", 21.5, epoch="2026-07-01T12:00:00+00:00")
        streamer.log_object(Weather(24.5, {"speed": 3, "from": "west"}), key_prefix="")
        print("bucket:", streamer.bucket.path)

    with API(platform.token, host=platform.url) as api:
        flow = api.flow.find(mem.description == "Greenhouse")[0]
        for drop in api.drop(flow["id"]).find(mem.temp > 20, order="asc"):
            elems = {key: value for key, value in drop["elems"].items() if key != "_time"}
            print(elems)
