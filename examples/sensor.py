"""A sensor: it sends readings, says what it is, does what is desired of it, and hears messages.

Run it: ``python examples/sensor.py``. It starts a platform, and itself once more as the device. On
a real device: ``python sensor.py https://flowkit.example.org ACCOUNT/PROVISIONING_TOKEN FILE``.
"""

import math
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from queue import SimpleQueue

from flowkit import DeviceClient, mem
from flowkit.testing import Platform

NAME = "bench-3"


def sense(url, token, file):
    """All that stands on the device."""
    wishes = SimpleQueue()
    with DeviceClient.start(
        NAME, token, file, url, desired_properties_updated_callback=wishes.put
    ) as client:
        print(f"device: this is {client.device_id}", flush=True)
        client.update_reported_properties({"firmware": "2.1"})
        air = client.create_stream_sender("greenhouse", "air")
        interval_s = 1.0
        for number in count():
            air.enqueue_message({"temp": round(20 + 5 * math.sin(number / 10), 1)})
            while not wishes.empty():
                interval_s = wishes.get().values.get("interval_s", interval_s)
                client.patch_reported_properties({"interval_s": interval_s})
            message = client.receive(timeout=interval_s)  # the pause, unless a message comes
            if message is not None:
                print(f"device: the platform says {message.payload['say']}", flush=True)
                message.ack()
                if message.payload["say"] == "stop":
                    break
        print(f"device: {client.close(timeout=10).count} left to send", flush=True)


def until(found):
    """Ask again until there is an answer."""
    end = time.monotonic() + 20
    while not (answer := found()):
        if time.monotonic() > end:
            raise TimeoutError("the device did not do it")
        time.sleep(0.01)
    return answer


def own(api, start):
    """The owner's side: agree to the device, wish, say something, look at the readings."""
    api.stream.create({"group": "greenhouse", "name": "air", "messageIdPattern": "{uuid}"})
    token = api.provisioning_token.create({"autoApprove": True})["provisioningToken"]
    process = start(token)
    try:
        device = until(lambda: api.device.find(mem.deviceId == NAME, mem.reported.interval_s == 1))
        print("owner: its firmware is", device[0]["reported"]["firmware"])
        api.device.patch_desired(device[0], {"interval_s": 0.01})
        until(lambda: api.device.find(mem.deviceId == NAME, mem.reported.interval_s == 0.01))
        print("owner: it sends every 0.01 s now")
        flow = f"/{api.creds.account}/streams/greenhouse/air"
        until(lambda: len(api.drop(flow).find()) >= 20)
        api.drop.create({"path": f"{device[0]['path']}/commands", "elems": {"say": "stop"}})
        process.wait(timeout=20)
    finally:
        process.kill()
    warmest = max(drop["elems"]["temp"] for drop in api.drop(flow).find(mem.temp > 20, limit=1000))
    print(f"owner: the warmest was {warmest} degrees")


if len(sys.argv) > 1:
    sense(*sys.argv[1:])
else:
    with Platform() as platform, tempfile.TemporaryDirectory() as folder:
        address, file = platform.url, str(Path(folder) / "sensor.db")
        own(
            platform.api,
            lambda token: subprocess.Popen(
                [sys.executable, __file__, address, f"{platform.account}/{token}", file]
            ),
        )
