"""A platform of a few lines that answers as a test wants: for what a good one never does."""

from __future__ import annotations

import json
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["FakePlatform"]


class FakePlatform:
    """Keeps marks and counts questions; ``rules`` are asked first.

    Attributes:
        rules: called with method, path and body; (status, headers, answer) or None for the usual.
        asked: method and path of each question.
        marks: by stream, (sequence, message).
    """

    def __init__(self):
        self.rules = lambda method, path, body: None
        self.asked = []
        self.marks = {}
        self._lock = threading.Lock()
        platform = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("content-encoding") == "gzip":
                    body = zlib.decompress(body, 31)
                status, headers, said = platform.answer(self.command, self.path, body)
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = answer  # noqa: N815

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method, path, body):
        """Status, headers and answer."""
        self.asked.append(f"{method} {path.partition('?')[0]}")
        if body[:1] not in (b"", b"[", b"{") and "/drop" in path:
            return 415, {}, envelope(None, 415, ["this coding is not known here"])
        said = self.rules(method, path, body)
        if said is not None:
            return said
        if "/origin/" in path:
            shown = {name: {"sequence": m[0], "message": m[1]} for name, m in self.marks.items()}
            return 200, {}, envelope(shown)
        if method == "POST" and path.partition("?")[0].endswith("/drop"):
            with self._lock:
                return self._stored(json.loads(body))
        return 200, {}, envelope({})

    def _stored(self, entries):
        named, items = {}, []
        for entry in entries:
            origin = entry["origin"]
            stream, last = origin["stream"], origin.get("to", origin["sequence"])
            if last > self.marks.get(stream, (0, None))[0]:
                self.marks[stream] = (last, origin["message"])
            named[stream] = origin["box"]
            items.append({"status": 200} if "skip" in origin else {"id": "d"})
        marks = [
            {"box": box, "stream": name, "sequence": self.marks[name][0]}
            | {"message": self.marks[name][1]}
            for name, box in named.items()
        ]
        return 207, {}, envelope(items, marks=marks)

    def count(self, text):
        """How many questions began so."""
        return sum(each.startswith(text) for each in list(self.asked))


def envelope(body, status=200, errors=(), **more):
    """An answer of a platform."""
    head = {"status": status, "ok": status < 400, "errors": list(errors), "messages": [], **more}
    return {"head": head, "body": body}
