"""The whole platform behind one function: ``App.handle(Request) -> Response``.

HTTP, the embedded mode and the test kit all come through here; none of them is needed to test it.
``handle`` never raises and always answers an envelope. It may be called from any thread or
greenlet: everything that a request needs is in the request, and every request is one job of the
store, with the credential looked up inside that job.

Source: protocol 3 (HTTP API); ``docs/explanation/architecture.rst`` ("App.handle is the hinge").
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from flowkit import limits
from flowkit.errors import (
    BadRequest,
    Forbidden,
    PlatformError,
    ServerError,
    UsageError,
)
from flowkit.protocol.envelope import Request, Response, too_large
from flowkit.query.params import flag
from flowkit.query.places import Places, zip_table
from flowkit.server import message
from flowkit.server.answers import HEADERS, encoded, envelope_of, preflight, refusal
from flowkit.server.asked import Asked, Watch
from flowkit.server.auth import Credential, authenticate
from flowkit.server.bodies import read_json
from flowkit.server.call import Call, Result, Work
from flowkit.server.checking import check_object, filter_fault
from flowkit.server.health import Health
from flowkit.server.live.live import Live
from flowkit.server.logs import under
from flowkit.server.metrics import Metrics
from flowkit.server.outside import Outside, is_outside
from flowkit.server.outside import methods_at as outside_methods
from flowkit.server.router import Router
from flowkit.server.routes import Match, methods_at, resolve
from flowkit.server.scripting import Scripting
from flowkit.server.settings import Settings
from flowkit.server.stopping import stop_within
from flowkit.server.store.base import Reader, Store, StoredObject, Writer
from flowkit.server.tasks import api, mqtt, rss
from flowkit.server.tasks.schedule import Scheduler

__all__ = ["App"]

_LOG = logging.getLogger(__name__)
_REQUEST_ID = re.compile(rf"[!-~]{{1,{limits.request_id_chars_max}}}")
_API_CALL = "apiCallByIdentity"
_OVERRIDES = ("GET", "MGET", "MPUT")


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request that is ready for the store.

    Attributes:
        match, call: the request, understood.
        request_id: the name under which the answer of a write is kept, None for no name.
        work: what runs in the job of the store, once the credential was found there. For a request
            with a fault it says the fault, which nobody but a good caller hears.
        asked: what is known of it so far.
        writes: whether that job runs on the writer.
    """

    match: Match
    call: Call
    work: Work
    asked: Asked
    request_id: str | None = None
    writes: bool = False


class App:
    """The platform on one store.

    Args:
        store: keeps everything; the app owns no other state.
        settings: bounds and switches.
        clock_ms: now, in milliseconds since 1970-01-01 UTC.
        places: the table of postal codes; by default that of the package ``zipcodes``, if it is
            there and the settings allow it.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings | None = None,
        *,
        clock_ms: Callable[[], int] = _clock_ms,
        places: Places | None = None,
    ) -> None:
        self.store = store
        self.settings = settings or Settings()
        self.metrics = Metrics()
        store.on_batch(self.metrics.commit)
        for line in store.waiting():
            read_line = partial(_waiting_in, store, line)
            self.metrics.watch("flowkit_waiting_jobs", read_line, line)
        _watch_fleet(self.metrics, store, clock_ms)
        self.health = Health(store)
        self.watch = Watch(self.settings, self.metrics)
        self._clock_ms = clock_ms
        self._places = places or (zip_table() if self.settings.zip_lookup else None)
        self.scripts = Scripting(
            store,
            self.settings,
            clock_ms=clock_ms,
            places=self._places,
            metrics=self.metrics,
        )
        self.router = Router(
            store,
            clock_ms=clock_ms,
            run_script=self.scripts.run,
            places=self._places,
            metrics=self.metrics,
        )
        self.router.start()
        self.tasks = self._scheduler() if self.settings.run_tasks else None
        self.live = Live(
            store,
            self.handle,
            clock_ms=clock_ms,
            places=self._places,
            metrics=self.metrics,
        )
        self._outside = Outside(self.live, self.watch, self.health, store, self.settings)

    def _scheduler(self) -> Scheduler:
        allow_hosts = self.settings.allow_hosts
        scheduler = Scheduler(
            self.store,
            {
                "api_task": partial(api.bring, pool=self.scripts.pool, allow_hosts=allow_hosts),
                "rss_task": partial(rss.bring, allow_hosts=allow_hosts),
            },
            connect=self._connection,
            clock_ms=self._clock_ms,
            places=self._places,
            metrics=self.metrics,
        )
        scheduler.start()
        return scheduler

    def _connection(self, task: StoredObject) -> mqtt.Connection:
        return mqtt.Connection(
            task,
            self.store,
            clock_ms=self._clock_ms,
            allow_hosts=self.settings.allow_hosts,
            places=self._places,
        )

    def handle(self, request: Request) -> Response:
        """Answer *request*; whatever is wrong with it or with us becomes an envelope."""
        asked = self.watch.begin(request)
        with under(asked.request_id):
            response = self._handled(request, asked)
            if asked.who is not None and not asked.is_counted:
                self.store.count_later(_API_CALL, asked.who.account.identity_id)
            return self.watch.end(asked, response)

    def _handled(self, request: Request, asked: Asked) -> Response:
        pretty = False
        try:
            _check_text(request)
            if is_outside(request.segments):
                return self._outside.answer(request, asked)
            if request.method == "OPTIONS":
                return preflight(methods_at(request.segments))
            pretty = flag("pretty", request.params.get("pretty"))
            return self._answer(*_overridden(request), asked, pretty=pretty)
        except PlatformError as error:
            if error.status >= 500:
                _LOG.warning("%s: %s", _told(asked), error)
            allowed: Sequence[str] = ()
            if error.status == 405:
                allowed = _methods_of(request)
            return refusal(error, pretty=pretty, allowed=allowed)
        except UsageError as error:
            return refusal(filter_fault(error), pretty=pretty)
        except Exception:  # noqa: BLE001 - the last stop: nothing may leave this function
            _LOG.exception("%s failed", _told(asked))
            fault = "The server failed to answer; its log has the reason under request "
            return refusal(ServerError(fault + asked.request_id), pretty=pretty)

    def close(self) -> None:
        """Stop what works in the background, then close the store, after what is under way there.

        Tasks and Tracks end first, for they use the scripts; each gets ``background_stop_s``. What
        they had not finished is in the store, whole, and is done after the next start.
        """
        parts = {"live": self.live, "tasks": self.tasks, "router": self.router}
        stop_within(parts, limits.background_stop_s)
        stop_within({"scripts": self.scripts}, limits.background_stop_s)
        self.store.close()

    # One request, top to bottom

    def _answer(
        self, request: Request, params: Mapping[str, Any], asked: Asked, *, pretty: bool
    ) -> Response:
        ready = self._prepare(request, params, asked)
        if ready.writes:
            return self._write(ready, pretty)

        def job(reader: Reader) -> Result:
            with under(asked.request_id):
                return ready.work(reader, _authorised(reader, ready.match, ready.call, asked))

        quick = ready.match.route.is_quick
        result = self.store.read(job, timeout_s=self.settings.query_timeout_s, quick=quick)
        if result.later is not None:
            result = result.later(self.store.read)
        body = encoded(envelope_of(result, ready.call.notes), pretty=pretty)
        if len(body) > self.settings.answer_bytes_max:
            raise too_large(self.settings.answer_bytes_max)
        return Response(result.status, HEADERS, body)

    def _prepare(self, request: Request, params: Mapping[str, Any], asked: Asked) -> _Prepared:
        """Everything that needs no store. A fault waits until the credential has been looked at.

        A large body is the exception: it is read only once that has been done.
        """
        match = resolve(request.method, request.segments)
        asked.method, asked.route = match.route.method, match.route.pattern
        call = self._call(request, match, params, asked)

        def look_up() -> None:
            self.store.read(lambda reader: _authorised(reader, match, call, asked), quick=True)

        self.watch.admit(asked, request, look_up)
        if len(request.body) >= limits.body_aside_bytes_min:  # not read for just anybody
            look_up()
        try:
            _check_size(request.body, match, self.settings)
            request_id = _request_id(call) if match.route.writes else None
            work = match.route.handler(call)
            self.watch.charge(asked, call)
            return _Prepared(match, call, work, asked, request_id, match.route.writes)
        except PlatformError as error:
            return _Prepared(match, call, _refusing(error), asked)
        except UsageError as error:
            return _Prepared(match, call, _refusing(filter_fault(error)), asked)

    def _call(
        self, request: Request, match: Match, params: Mapping[str, Any], asked: Asked
    ) -> Call:
        def again(
            method: str, segments: tuple[str, ...], params: Mapping[str, Any], body: Any
        ) -> tuple[Call, Work]:
            inner = resolve(method, (*request.segments[:2], *segments))
            call = self._call(replace(request, body=b""), inner, params, asked)
            call.now_ms = outer.now_ms
            call.set_body(body)
            asked.further += 1 + call.entries // limits.rate_entries_per_request
            return call, inner.route.handler(call)

        outer = Call(
            request=request,
            args=match.args,
            params=params,
            known=match.route.known,
            typed=match.typed,
            now_ms=self._clock_ms(),
            settings=self.settings,
            places=self._places,
            again=again,
            scripts=self.scripts,
            metrics=self.metrics,
        )
        return outer

    def _write(self, ready: _Prepared, pretty: bool) -> Response:
        """A write, or the repeated answer of one that was done already.

        The answer is kept in the same commit as the write, so an answer that can be repeated and
        a write that happened are one and the same thing.
        """
        request_id = ready.request_id

        def looked_ahead(reader: Reader) -> None:
            who = _authorised(reader, ready.match, ready.call, ready.asked)
            for look in ready.call.ahead:
                look(reader, who)

        def job(writer: Writer) -> tuple[int, bytes]:
            with under(ready.asked.request_id):
                return written(writer)

        def written(writer: Writer) -> tuple[int, bytes]:
            who = _authorised(writer, ready.match, ready.call, ready.asked)
            name = who.key  # what a master token was told is not for a Token, and the reverse
            writer.count(_API_CALL, who.account.identity_id)
            given = writer.answer(name, request_id) if request_id else None
            if given is not None:
                return given
            result = ready.work(writer, who)
            body = encoded(envelope_of(result, ready.call.notes), pretty=pretty)
            if request_id:
                again, kept = result.again, body
                if again is not result:
                    kept = encoded(envelope_of(again, ready.call.notes), pretty=pretty)
                writer.keep_answer(name, request_id, result.status, kept)
            return result.status, body

        if ready.call.ahead:
            # A disk so slow that its time was up, or readers that have too much to do: the job
            # looks itself, and a write does not fail for it.
            with suppress(BadRequest, ServerError):
                self.store.read(looked_ahead)
        is_large = ready.call.entries >= limits.store_large_entries_min
        status, body = self.store.write(job, large=is_large)
        ready.asked.is_counted = True
        return Response(status, HEADERS, body)


def _waiting_in(store: Store, line: str) -> float:
    return store.waiting()[line]


def _watch_fleet(metrics: Metrics, store: Store, clock_ms: Callable[[], int]) -> None:
    """Let the figures tell of devices; the store is asked when somebody reads them."""

    def counted(at: int) -> float:
        now_ms = clock_ms()
        seen_since_ms = now_ms - limits.device_seen_ms
        return store.read(lambda reader: reader.fleet.figures(seen_since_ms, now_ms))[at]

    metrics.watch("flowkit_devices", partial(counted, 0), "ever")
    metrics.watch("flowkit_devices", partial(counted, 1), "day")
    metrics.watch("flowkit_provisioning_pending", partial(counted, 2))


def _told(asked: Asked) -> str:
    """A request in a line of the log, for who has not let ``logs`` write it."""
    return f"request {asked.request_id} {asked.method} {asked.route}"


def _methods_of(request: Request) -> Sequence[str]:
    """The methods of an address that exists."""
    segments = request.segments
    return outside_methods(segments) if is_outside(segments) else methods_at(segments)


def _refusing(error: PlatformError) -> Work:
    """The work of a request that is at fault."""

    def work(_reader: Reader, _who: Credential) -> Result:
        raise error

    return work


def _overridden(request: Request) -> tuple[Request, Mapping[str, Any]]:
    """Follow ``X-HTTP-Method-Override`` of a POST (3.5); the request and its query parameters.

    With ``GET`` the body is an object of query parameters, which go before those in the address.
    """
    method = request.headers.get("x-http-method-override", "").strip().upper()
    if request.method != "POST" or not method:
        return request, request.params
    if method not in _OVERRIDES:
        raise BadRequest(f"X-HTTP-Method-Override: must be one of {', '.join(_OVERRIDES)}")
    request = replace(request, method=method)
    if method != "GET":
        return request, request.params
    if len(request.body) > limits.body_bytes_max:
        raise message.too_large(limits.body_bytes_max)
    given = check_object(read_json(request.body)) if request.body.strip() else {}
    return replace(request, body=b""), {**request.params, **given}


def _check_text(request: Request) -> None:
    """Refuse halves of surrogate pairs: a caller in this process can send what HTTP cannot."""
    said = (*request.segments, *request.params, *request.params.values(), request.method)
    if not all(each.isascii() or _is_text(each) for each in said if isinstance(each, str)):
        raise BadRequest("The address holds half of a surrogate pair")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_size(body: bytes, match: Match, settings: Settings) -> None:
    """Refuse a body over its bound; an array create has a larger one (12)."""
    if len(body) <= settings.body_bytes_max:
        return
    is_array = match.route.array and body.lstrip()[:1] == b"["
    most = settings.body_array_bytes_max if is_array else settings.body_bytes_max
    if len(body) > most:
        raise message.too_large(most)


def _authorised(reader: Reader, match: Match, call: Call, asked: Asked) -> Credential:
    """The credential of the request, which must be that of the account in the address."""
    headers = call.request.headers
    account = match.account
    who = authenticate(
        reader,
        headers.get("x-auth-token"),
        account,
        call.now_ms,
        provisioning=match.route.provisioning,
    )
    if headers.get("x-auth-account", account) != account:
        raise Forbidden("X-Auth-Account: is not the account in the address")
    asked.who = who
    return who


def _request_id(call: Call) -> str | None:
    """The name under which the answer is kept: the caller's id and what was asked.

    The request itself is part of the name, so an id that is used twice for different requests
    never answers one with the answer of the other.
    """
    given = call.request.headers.get("x-request-id")
    if given is None:
        return None
    if not _REQUEST_ID.fullmatch(given):
        raise BadRequest(
            f"X-Request-Id: must be 1 to {limits.request_id_chars_max} visible ASCII characters"
        )
    asked = orjson.dumps([call.request.method, call.request.segments, dict(call.params)])
    digest = hashlib.blake2b(asked + b"\n" + call.request.body, digest_size=16).hexdigest()
    return f"{given} {digest}"
