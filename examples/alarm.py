"""An alarm that misses nothing: it stops, drops come meanwhile, and it goes on where it was.

Run it: ``python examples/alarm.py``. It starts itself twice as a process of its own, as a service
would be started again after a crash; what it has dealt with is remembered in a file.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from flowkit import API, Token, mem

PATH = "/nora/boiler"


def watch(host, token, file, count):
    """The alarm itself: say each drop that is too hot, and end after *count* of them."""
    with (
        API(Token("nora", token), host=host) as api,
        api.drop(PATH).subscribe(mem.temp > 90, since="start", resume_file=file) as hot,
    ):
        for number, drop in enumerate(hot, 1):
            print(f"alarm: {drop['elems']['temp']} degrees", flush=True)
            if number == count:
                break


def play(folder):
    """A server, somebody who writes, and the alarm: once, then once more."""
    from flowkit.server.serve import Server
    from flowkit.server.settings import Settings

    with Server(Settings(data=folder / "data", account="nora", port=0)) as server:
        token = server.first_token
        with API(Token("nora", token), host=server.url) as api:
            api.flow.create({"path": PATH})
            for temps in ((20, 95), (99, 40, 97)):
                for temp in temps:
                    api.drop.create({"path": PATH, "elems": {"temp": temp}})
                alarms = sum(temp > 90 for temp in temps)
                arguments = [server.url, token, str(folder / "place"), str(alarms)]
                subprocess.run([sys.executable, __file__, *arguments], check=True)
                print("the alarm has stopped", flush=True)


if len(sys.argv) > 1:
    watch(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    with tempfile.TemporaryDirectory() as made:
        play(Path(made))
