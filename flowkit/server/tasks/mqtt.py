"""MQTT connections: messages of a topic become drops, or new drops of a flow become messages.

A message is acknowledged to the broker once its drop is on disk; with a ``clientId`` the broker
keeps the session, so what came while this server was down comes later. A drop waits in the store,
as it does for a Track, until the broker has taken it. Both ways a message may come twice after a
crash, and none is lost.

One native thread for each connection; paho-mqtt does the protocol. A lost connection is made again,
later and later, and its topic subscribed anew.

Source: protocol 7.3 (MQTT connection).
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from flowkit import limits
from flowkit.errors import BadRequest, PlatformError
from flowkit.green import Cell, monotonic, start_thread
from flowkit.query.places import Places
from flowkit.server import ingest
from flowkit.server.auth import Credential, credential_of, may
from flowkit.server.outgoing import OutgoingError, check_address
from flowkit.server.store.base import Delivery, Reader, Store, StoredObject, Writer
from flowkit.server.tasks.runs import write_report

__all__ = ["Connection", "drop_of"]

_log = logging.getLogger(__name__)

NOT_ENABLED = "MQTT is not enabled on this server (pip install 'flowkit[tasks]')"

_TLS = frozenset({"mqtts", "ssl"})
_KEEP_ALIVE_S = 30
_LOOP_IN_S, _LOOP_OUT_S = 1.0, 0.1
_FIRST_DELAY_S, _DELAY_MAX_S = 0.5, 30.0
_REPORT_MS = 300_000


@dataclass(slots=True)
class _Counted:
    """What goes into the next report."""

    messages: int = 0
    errors: int = 0
    connections: int = 0
    disconnections: int = 0
    ids: list[dict[str, str]] = field(default_factory=list)


def drop_of(payload: bytes, input_format: Any) -> dict[str, Any]:
    """The body of a Drop for a message (7.3).

    Raises:
        ValueError: it is no JSON object, and the format is not ``raw``.
    """
    try:
        said = json.loads(payload)
    except ValueError:
        said = None
    if isinstance(said, dict):
        taken = ("elems", "fhash", "location")
        if isinstance(said.get("elems"), dict):
            return {name: said[name] for name in taken if name in said}
        return {"elems": said}
    if input_format == "raw":
        return {"elems": {"payload": payload.decode("utf-8", "replace")}}
    raise ValueError("a message is no JSON object")


class Connection:
    """One connection to a broker, at work until ``close()``.

    Args:
        task: its definition; a changed one gets a new connection.
        store: where drops come from and go.
        clock_ms: now, in milliseconds since 1970-01-01 UTC.
        allow_hosts: brokers that may be reached beside public addresses.
        places: the table of postal codes.
    """

    def __init__(
        self,
        task: StoredObject,
        store: Store,
        *,
        clock_ms: Callable[[], int],
        allow_hosts: str = "",
        places: Places | None = None,
    ) -> None:
        self.task = task
        self._store = store
        self._clock_ms = clock_ms
        self._allow_hosts = allow_hosts
        self._places = places
        self._is_closing = False
        self._ended: Cell[None] = Cell()
        self._counted = _Counted()
        self._arrived: list[Any] = []
        self._sent: dict[int, Delivery] = {}
        self._place = 0
        self._has_news = True
        self._is_up = False
        self._report_at_ms = clock_ms() + int(task.doc.get("reportFrequency") or _REPORT_MS)
        start_thread(self._run, name="flowkit-mqtt")

    def wake(self) -> None:
        """There may be new drops to publish."""
        self._has_news = True

    def close(self) -> None:
        """Disconnect; what is not stored or published yet stays where it is."""
        self._is_closing = True
        self._ended.wait(limits.background_stop_s)

    # The thread

    def _run(self) -> None:
        delay_s = _FIRST_DELAY_S
        try:
            while not self._is_closing:
                try:
                    client = self._connected()
                    delay_s = _FIRST_DELAY_S
                    self._talk(client)
                except (OutgoingError, OSError, PlatformError, ValueError) as error:
                    self._counted.errors += 1
                    self._say_status("ERROR")
                    _log.warning("mqtt %s: %s", self.task.id, error)
                if not self._is_closing:
                    self._report_if_due()
                    self._pause(delay_s)
                    delay_s = min(delay_s * 2, _DELAY_MAX_S)
        except Exception:  # noqa: BLE001 - the thread ends, and the log says why
            _log.exception("mqtt %s failed", self.task.id)
        finally:
            self._ended.set(None)

    def _pause(self, seconds: float) -> None:
        until = monotonic() + seconds
        waiting: Cell[None] = Cell()
        while not self._is_closing and monotonic() < until:
            waiting.wait(min(0.2, max(0.0, until - monotonic())))

    def _connected(self) -> Any:
        """A client whose connection was begun, to an address that was checked."""
        try:
            import paho.mqtt.client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ModuleNotFoundError:
            raise OutgoingError(NOT_ENABLED) from None

        doc = self.task.doc
        target = urlsplit(doc["uri"])
        host = str(target.hostname)
        is_tls = target.scheme in _TLS
        port = target.port or (8883 if is_tls else 1883)
        addresses = check_address(host, port, self._allow_hosts)
        client_id = str(doc.get("clientId") or "")
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=not client_id,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        if doc.get("username") is not None:
            client.username_pw_set(doc["username"], self.task.state.get("password"))
        if is_tls:
            client.tls_set_context(ssl.create_default_context())
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = lambda _client, _data, message: self._arrived.append(message)
        client.on_publish = self._on_publish
        # TLS is verified against the name, which is looked up once more there
        client.connect(host if is_tls else addresses[0], port, keepalive=_KEEP_ALIVE_S)
        return client

    def _talk(self, client: Any) -> None:
        """Until the connection is lost or has to end."""
        loop_s = _LOOP_OUT_S if self.task.doc.get("source") else _LOOP_IN_S
        self._is_up = False
        self._sent.clear()
        self._arrived.clear()  # not acknowledged: they come again
        self._place = 0
        self._has_news = True
        try:
            while not self._is_closing:
                result = self._heard(client, loop_s)
                self._store_arrived(client)
                if self._is_up and self._has_news and self.task.doc.get("source"):
                    self._publish(client)
                self._report_if_due()
                if result:
                    raise ConnectionError(f"the connection was lost (code {result})")
        finally:
            self._counted.disconnections += self._is_up
            self._is_up = False
            client.disconnect()
            client.loop(0)

    def _heard(self, client: Any, loop_s: float) -> int:
        """Let the client read and write; several messages that are there come together."""
        result = client.loop(loop_s)
        before = 0
        while not result and before < len(self._arrived) < limits.track_batch_deliveries_max:
            before = len(self._arrived)
            result = client.loop(0)
        return int(result)

    def _on_connect(
        self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._counted.errors += 1
            self._say_status("ERROR")
            _log.warning("mqtt %s: the broker refused: %s", self.task.id, reason)
            return
        self._is_up = True
        self._counted.connections += 1
        if self.task.doc.get("destination"):
            client.subscribe(self.task.doc["topic"], self._qos)
        else:
            self._say_status("OK")

    def _on_subscribe(
        self, _client: Any, _data: Any, _mid: int, reasons: Any, _properties: Any
    ) -> None:
        """Only now does everything that is published come here."""
        refused = [reason for reason in reasons if reason.is_failure]
        if refused:
            self._counted.errors += 1
            _log.warning("mqtt %s: the broker refused the topic: %s", self.task.id, refused[0])
        self._say_status("ERROR" if refused else "OK")

    @property
    def _qos(self) -> int:
        return int(self.task.doc.get("qos", 0))

    # In

    def _store_arrived(self, client: Any) -> None:
        """Store what came, in one commit, then acknowledge it."""
        if not self._arrived:
            return
        messages, self._arrived = self._arrived, []
        counted = self._store.write(lambda writer: self._stored(writer, messages))
        self._counted.messages += len(messages)
        self._counted.errors += counted.errors
        self._counted.ids = [*self._counted.ids, *counted.ids][-100:]
        for message in messages:
            if message.qos:
                client.ack(message.mid, message.qos)

    def _stored(self, writer: Writer, messages: list[Any]) -> _Counted:
        counted = _Counted()
        who = self._creator(writer)
        for message in messages:
            try:
                body = drop_of(message.payload, self.task.doc.get("inputFormat"))
                checked = ingest.check_drop(body, typed=False, addressed=True)
                checked.members["path"] = self.task.doc["destination"]
                arrival = ingest.Arrival(checked, self._clock_ms(), self._places)
                written = ingest.create(writer, who, arrival)
            except ingest.RefusedByFilter:
                continue
            except (ValueError, PlatformError) as error:
                if isinstance(error, PlatformError) and error.status >= 500:
                    raise
                counted.errors += 1
                continue
            doc = written.drop.doc
            counted.ids.append({"flowId": doc["flowId"], "dropId": doc["id"]})
        return counted

    # Out

    def _publish(self, client: Any) -> None:
        """Publish what waits, as many as may be under way."""
        self._has_news = False
        room = limits.track_batch_deliveries_max - len(self._sent)
        waiting = self._store.read(self._waiting) if room > 0 else []
        for delivery in waiting[:room]:
            text = json.dumps({"elems": delivery.drop.doc["elems"]}, ensure_ascii=False)
            info = client.publish(self.task.doc["topic"], text.encode(), self._qos)
            self._sent[info.mid] = delivery
            self._place = delivery.place
        if len(waiting) > room or room <= 0:
            self._has_news = True

    def _waiting(self, reader: Reader) -> list[Delivery]:
        """What waits and is not under way; nothing where the right to read has gone."""
        task = reader.object("mqtt_task", self.task.id)
        if task is None or not may(self._creator(reader), "dropRead", task.doc["source"]):
            return []
        found = reader.deliveries(task, limits.track_batch_deliveries_max + len(self._sent))
        return [one for one in found if one.place > self._place]

    def _on_publish(self, _client: Any, _data: Any, mid: int, *_more: Any) -> None:
        """The broker has it: the place moves up to the first that is still under way."""
        done = self._sent.pop(mid, None)
        if done is None:
            return
        self._counted.messages += 1
        doc = done.drop.doc
        self._counted.ids = [
            *self._counted.ids,
            {"flowId": doc["flowId"], "dropId": doc["id"]},
        ][-100:]
        if not self._sent:
            place = self._place
            self._store.write(lambda writer: self._settled(writer, place))
            self._has_news = True

    def _settled(self, writer: Writer, place: int) -> None:
        task = writer.object("mqtt_task", self.task.id)
        if task is not None:
            writer.settle_track(task, place)

    # Reports

    def _report_if_due(self) -> None:
        now = self._clock_ms()
        if now < self._report_at_ms:
            return
        self._report_at_ms = now + int(self.task.doc.get("reportFrequency") or _REPORT_MS)
        counted, self._counted = self._counted, _Counted()
        elems = {
            "ids": counted.ids,
            "errorCount": counted.errors,
            "connections": counted.connections,
            "disconnections": counted.disconnections,
            "messages": counted.messages,
        }

        def job(writer: Writer) -> None:
            write_report(writer, self._creator(writer), self.task, elems, now)

        self._store.write(job)

    def _say_status(self, status: str) -> None:
        def job(writer: Writer) -> None:
            task = writer.object("mqtt_task", self.task.id)
            if task is not None and task.doc.get("status") != status:
                writer.update_object(task, {"status": status}, editor=None)

        self._store.write(job)

    def _creator(self, reader: Reader) -> Credential:
        account = reader.account(self.task.account)
        if account is None:
            raise BadRequest("the account of this connection is gone")
        return credential_of(reader, account, self._clock_ms())
