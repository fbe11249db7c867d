"""Clients of ``blast_server.py``, each timed in a process of its own: name, port, count.

Prints the seconds from the subscription to the last message.
"""

import http.client
import json
import sys
import time

FLOW = "f5a2c11e09b1e4d7a6c3f0010"


class Clock:
    """Counts messages, and knows how long all of them took."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.start = self.seconds = 0.0

    def begin(self) -> None:
        """The subscription is being sent."""
        self.start = time.perf_counter()

    def is_last(self) -> bool:
        """One more message; whether it is the last."""
        self.count -= 1
        if self.count:
            return False
        self.seconds = time.perf_counter() - self.start
        return True


def websocket_app(port: int, clock: Clock, decode) -> None:
    """The loop of the package websocket-client, as its documentation shows it."""
    from websocket import WebSocketApp

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/session")
    session = json.loads(connection.getresponse().read())["body"]["id"]

    def on_open(app) -> None:
        clock.begin()
        app.send(json.dumps({"msgId": "1", "object": "drop", "type": "subscribe", "flowId": FLOW}))

    def on_message(app, text: str) -> None:
        message = decode(text)
        if "head" in message:
            return
        if clock.is_last():
            app.close()

    url = f"ws://127.0.0.1:{port}/session/{session}/ws"
    WebSocketApp(url, on_open=on_open, on_message=on_message).run_forever()


def undecoded(text: str) -> str:
    """The message as it came, but for replies."""
    return "head" if text.startswith('{"head"') else "m"


def flowkit_api(port: int):
    """An API on the server."""
    from flowkit import API, Token

    return API(Token("bench", "t" * 32), host=f"http://127.0.0.1:{port}")


def flowkit_runner(port: int, clock: Clock) -> None:
    """The documented runner with its handlers, and a plain subscription."""

    def on_open(ws) -> None:
        clock.begin()
        ws.subscribe(FLOW)

    def on_message(ws, resource: str, drop: dict) -> None:
        if clock.is_last():
            ws.close()

    with flowkit_api(port) as api:
        api.websocket.connect(on_open=on_open, on_message=on_message).run()


def flowkit_handler(port: int, clock: Clock) -> None:
    """A handler of a subscription's own, with a filter: it has a place, and resumes."""
    with flowkit_api(port) as api:
        ws = api.websocket.connect()
        clock.begin()
        ws.subscribe(FLOW, filter="temp >= 0", on_drop=lambda _: clock.is_last() and ws.close())
        ws.run()


def flowkit_iteration(port: int, clock: Clock) -> None:
    """The drops of a subscription, one after the other."""
    with flowkit_api(port) as api:
        clock.begin()
        for _ in api.drop(FLOW).subscribe("temp >= 0"):
            if clock.is_last():
                return


CLIENTS = {
    "websocket-client, counted only": lambda p, c: websocket_app(p, c, undecoded),
    "websocket-client, json.loads": lambda p, c: websocket_app(p, c, json.loads),
    "flowkit, runner": flowkit_runner,
    "flowkit, handler, filter": flowkit_handler,
    "flowkit, iteration, filter": flowkit_iteration,
}


if __name__ == "__main__":
    name, port, count = sys.argv[1:]
    clock = Clock(int(count))
    CLIENTS[name](int(port), clock)
    print(clock.seconds)
