"""API: credentials, services and a transport in one object; ``connect`` makes one from a profile.

An ``API`` may be used by any number of threads and greenlets. Its options are read once, when it is
made; its credentials can be changed, and every service uses those of the moment of the call.

Source: protocol 13.1 (the contract), 3.1 (hosts and versions), 13.2.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, unquote

from flowkit.client import encoding
from flowkit.client.arguments import plain
from flowkit.client.calls import (
    NOTHING,
    Call,
    Door,
    Later,
    Result,
    changes_nothing,
    sender,
    wire_params,
)
from flowkit.client.credentials import Profile, Token, find_profile
from flowkit.client.drops import Drops
from flowkit.client.fleet import Devices, Operations
from flowkit.client.options import Defaults, Options, check_known, defaults, seconds
from flowkit.client.originals import original
from flowkit.client.origins import Origins
from flowkit.client.services import Grants, Identities, Root, Service, Tracks, WebSockets
from flowkit.client.statistics import Statistics
from flowkit.client.streams import Payloads, Streams
from flowkit.errors import SettingsError, UsageError
from flowkit.green import NativeLock
from flowkit.protocol.resources import RESOURCES

if TYPE_CHECKING:
    from flowkit.client.concurrent import AsyncCalls, LazyCalls
    from flowkit.client.transport import Transport

__all__ = ["API", "connect"]

_OWN_WORDS = frozenset({"timeout", "envelope"})


class API:
    """The platform as one account sees it.

    Args:
        creds: a ``Token``, or a pair ``(account, token)``.
        host: ``name[:port]`` or a URL; None: ``flowkit.defaults.host``, then ``FLOWKIT_HOST``.
        ws_host: the same for WebSocket sessions; None: *host*.
        secure: TLS or not; None: as the URL says, else off for a loopback address, on otherwise.
        version: of the protocol; ``"4.0"`` unless the defaults say otherwise.
        params: query parameters sent with every request; a call's own win. ``refs`` is refused
            here.
        async_lib: ``gevent`` or ``eventlet`` (the module or its name); None: whatever the caller
            runs in.
        transport: what sends the requests, in place of HTTP to *host*. The API closes it.
        timeout: seconds that one call may take, repetitions included.
        retries: how often a call that is safe to repeat is repeated; or a ``Retry``.
        verify: of TLS: a bool, the path of a CA bundle, or an ``ssl.SSLContext``.
        method_override: send MGET and MPUT as POST with ``X-HTTP-Method-Override``, for proxies
            that refuse unusual methods.

    Raises:
        SettingsError: no host, or options that contradict each other or have the wrong type.

    Attributes:
        flow, group, api_task, mqtt_task, rss_task: services with all verbs.
        stream: the same, and ``open``.
        payload: the bytes of messages.
        track: the same, and ``simulate``, ``backtest``.
        device: the same, and the documents of a device and renewing its Token.
        provisioning: devices that ask to become one, and deciding about them.
        drop: of the account; ``api.drop(flow)`` of one flow.
        identity: reading, and changing one's own.
        token, share, provisioning_token: create, read, find, delete.
        statistics, origin, websocket, root: see their classes.
    """

    defaults: Defaults = defaults
    """Where options come from that are not given. A subclass may have its own."""

    def __init__(
        self,
        creds: Token | tuple[str, str],
        *,
        host: str | None = None,
        ws_host: str | None = None,
        secure: bool | None = None,
        version: str | None = None,
        params: Mapping[str, Any] | None = None,
        async_lib: Any = None,
        transport: Transport | None = None,
        timeout: float | None = None,
        retries: Any = None,
        verify: Any = None,
        method_override: bool = False,
    ) -> None:
        given = {
            "host": host,
            "ws_host": ws_host,
            "secure": secure,
            "version": version,
            "params": params,
            "async_lib": async_lib,
            "transport": transport,
            "timeout": timeout,
            "retries": retries,
            "verify": verify,
            "method_override": method_override,
        }
        self.creds = creds  # the setter makes a Token of a pair
        self.options = Options.read(given, self.defaults)
        self._transport = _opened(self.options)
        self._door = Door(self._transport, self.options, encode=self.encode, decode=self.decode)
        self._lock = NativeLock()
        self._socket_door: Door | None = None
        self._lazies: weakref.WeakSet[LazyCalls] = weakref.WeakSet()
        self.root = Root(self)
        self.flow = Service(self, RESOURCES["flow"])
        self.drop = Drops(self)
        self.track = Tracks(self, RESOURCES["track"])
        self.group = Service(self, RESOURCES["group"])
        self.identity = Identities(self, RESOURCES["identity"])
        self.api_task = Service(self, RESOURCES["api_task"])
        self.mqtt_task = Service(self, RESOURCES["mqtt_task"])
        self.rss_task = Service(self, RESOURCES["rss_task"])
        self.token = Grants(self, RESOURCES["token"])
        self.share = Grants(self, RESOURCES["share"])
        self.stream = Streams(self, RESOURCES["stream"])
        self.payload = Payloads(self)
        self.device = Devices(self, RESOURCES["device"])
        self.provisioning = Operations(self, RESOURCES["provisioning"])
        self.provisioning_token = Grants(self, RESOURCES["provisioning_token"])
        self.statistics = Statistics(self)
        self.origin = Origins(self)
        self.websocket = WebSockets(self)

    @property
    def creds(self) -> Token:
        """The credentials that the next call will use; a pair that is set becomes a ``Token``."""
        return self._creds

    @creds.setter
    def creds(self, creds: Token | tuple[str, str]) -> None:
        if not isinstance(creds, Token):
            if not isinstance(creds, tuple | list) or len(creds) != 2:
                raise UsageError(
                    f"credentials are a Token, not a {type(creds).__name__}",
                    hint="Token(account, token)",
                )
            creds = Token(*creds)
        self._creds = creds

    @property
    def transport(self) -> Transport:
        """What carries the requests; it is closed with the API."""
        return self._transport

    def __repr__(self) -> str:
        where = self.options.base_url or type(self._transport).__name__
        return f"<{type(self).__name__} {where} as {self._creds.account}>"

    # --- calls
    # --------------------------------------------------------------------------------------

    @original
    def call(
        self,
        method: str,
        segments: tuple[str, ...],
        params: Mapping[str, Any] | None = None,
        body: Any = NOTHING,
        *,
        is_find: bool = False,
        is_read: bool = False,
        is_repeatable: bool = True,
        is_tail: bool = False,
        shape: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Make one call; every verb of every service ends here, and so should those of your own.

        Args:
            method, segments: as in the routes of protocol 3.5; *segments* stand after version and
                account and are percent-encoded here.
            params: query parameters, and the two words ``timeout`` and ``envelope``.
            body: a value with a JSON form; left out for none.
            is_find: may be sent as POST when its URL would be too long.
            is_read: changes nothing, whatever its method.
            is_repeatable: False for what must never be sent twice.
            is_tail: what this returns is not looked at, only returned: in a parallel call it may
                stand for an answer that is not there yet.
            shape: what to make of the body before it is returned.

        Returns:
            the body; with ``refs`` the pair ``(body, references)``; with ``envelope`` a ``Result``.

        Raises:
            UsageError, TransportError, PlatformError: see ``flowkit.errors``.
        """
        wanted = params or {}
        timeout = wanted.get("timeout")
        call = Call(
            method,
            segments,
            {name: value for name, value in wanted.items() if name not in _OWN_WORDS},
            body,
            is_find=is_find,
            is_read=is_read,
            is_repeatable=is_repeatable,
            timeout_s=None if timeout is None else seconds(timeout),
            is_tail=is_tail,
        )
        send = sender.get()
        if send is None:  # a plain call, not one of a parallel one's
            if self._lazies and not changes_nothing(call):
                self._settle()
            result: Result | Later = self._door.send(call, self._creds)
        else:
            result = send(self._door, call, self._creds)
        if isinstance(result, Later):
            result.value = lambda answer: _returned(answer, wanted, shape)
            return result
        return _returned(result, wanted, shape)

    def _settle(self) -> None:
        """Lazy reads that were made before a write are answered before it."""
        with self._lock:
            lazies = list(self._lazies)
        for lazy in lazies:
            lazy.settle(self.options.timeout_s)

    def request(
        self,
        method: str,
        path: str,
        data: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Make an arbitrary request and return its body.

        Args:
            method: ``"GET"``, ``"MGET"`` …
            path: relative to version and account, percent-encoded where it must be:
                ``"/flow/f5a2…"``.
            data: the body as a Python value; None for none.
            params: query parameters, and ``timeout`` and ``envelope``.
        """
        if not isinstance(method, str) or not method.isalpha() or not isinstance(path, str):
            raise UsageError(
                f"request({method!r}, {path!r}) needs a method and a path, both as text"
            )
        place, _, query = path.partition("?")
        segments = tuple(unquote(part) for part in place.split("/") if part)
        wanted = {**dict(parse_qsl(query, keep_blank_values=True)), **(plain(params) or {})}
        body = NOTHING if data is None else plain(data)
        return self.call(method.upper(), segments, wanted, body)

    def socket_door(self) -> Door:
        """The door to the host of the WebSocket sessions: that of the calls, or one of its own."""
        if not self.options.has_own_ws_host:
            return self._door
        with self._lock:
            if self._socket_door is None:
                opened = _opened_for_sockets(self.options, self._transport)
                self._socket_door = Door(
                    opened, self.options, encode=self.encode, decode=self.decode
                )
            return self._socket_door

    def encode(self, value: Any) -> bytes:
        """A body as bytes. A subclass may bring its own JSON library."""
        return encoding.dumps(value).encode("utf-8")

    def decode(self, body: bytes) -> Any:
        """The value of an answer's bytes."""
        return encoding.loads(body)

    def message_decoder(self) -> Callable[[bytes], Any]:
        """What reads the messages of subscriptions: ``decode`` if a subclass has its own, else the
        fastest reader of JSON that is installed.
        """
        return self.decode if type(self).decode is not API.decode else encoding.fastest_loads()

    def texts(self, params: Mapping[str, Any]) -> dict[str, str]:
        """Query parameters as they stand in a URL; see ``wire_params``."""
        return wire_params(params)

    # --- services
    # -----------------------------------------------------------------------------------

    def add_service(self, name: str, cls: Callable[[API], Any]) -> None:
        """Add a service of your own as ``api.<name>``.

        Args:
            name: an attribute that the API does not have yet.
            cls: called with this API; usually a subclass of ``flowkit.client.services.Service``
                with a ``route``, which then has all the verbs.

        Raises:
            UsageError: the name is taken or cannot be an attribute.
        """
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            raise UsageError(f"{name!r} cannot be the name of a service")
        if hasattr(self, name):
            raise UsageError(f"this API has a {name} already")
        setattr(self, name, cls(self))

    def async_(self, pool: Any = None, *, batch: bool = False) -> AsyncCalls:
        """Calls that return at once, each with its green thread; ``results()`` waits for all.

        Args:
            pool: a number, or a pool whose size bounds the requests on the wire.
            batch: send reads that are pending together as one request, as ``lazy`` does.
        """
        from flowkit.client.concurrent import AsyncCalls

        return AsyncCalls(self, pool, batch=batch)

    def lazy(self, pool: Any = None, *, batch: bool = True) -> LazyCalls:
        """Calls that return a thunk at once, which waits when it is read.

        Args:
            pool: a number, or a pool whose size bounds the requests on the wire.
            batch: send reads that are pending together as one request; else each by itself.
        """
        from flowkit.client.concurrent import LazyCalls

        lazy = LazyCalls(self, pool, batch=batch)
        if batch:
            with self._lock:
                self._lazies.add(lazy)
        return lazy

    # --- the end
    # ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the subscriptions, the transport and its connections; closing twice is the same
        as once.
        """
        self.websocket.close()
        self._transport.close()
        if self._socket_door is not None:
            self._socket_door.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


setattr(API, "async", API.async_)  # the old name is a keyword of Python now: getattr(api, "async")


def connect(profile: str | None = None, **api_options: Any) -> API:
    """An API for the host and credentials of *api_options*, the environment or a profile.

    The first that says it wins, for each of the three: ``host= account= token=`` given here, then
    ``FLOWKIT_HOST``, ``FLOWKIT_ACCOUNT``, ``FLOWKIT_TOKEN``, then the profile file.

    Args:
        profile: the section of the profile file; None: ``FLOWKIT_PROFILE``, then ``default``, then
            the only one there is.
        api_options: ``host``, ``account``, ``token`` or ``creds``, and the other options of
            ``API``.

    Raises:
        SettingsError: something is still missing; the message says all three ways to give it.
    """
    given = {name: api_options.pop(name, None) for name in ("host", "account", "token")}
    creds = api_options.pop("creds", None)
    check_known(api_options, API.__init__.__kwdefaults__ or (), "option")
    if creds is not None:
        if given["account"] or given["token"]:
            raise SettingsError("creds= was given beside account= or token=")
        given["account"], given["token"] = creds
    transport = api_options.get("transport")
    found, where = find_profile(profile, given=Profile(**given), needs_host=transport is None)
    host, account, token = found.host, found.account, found.token
    if transport is not None:
        host = given["host"]
    values = {"host": host or transport, "account": account, "token": token}
    missing = [name for name, value in values.items() if not value]
    if missing:
        names = " and ".join(missing)
        variables = ", ".join(f"FLOWKIT_{name.upper()}" for name in missing)
        raise SettingsError(
            f"connect() does not know the {names}",
            hint=f"give {', '.join(f'{name}=…' for name in missing)} to connect(), or set "
            f"{variables}, or write a profile: 'flowkit serve --save-profile NAME' ({where})",
        )
    assert account
    assert token
    return API(Token(account, token), host=host, **api_options)


def _returned(result: Result, wanted: Mapping[str, Any], shape: Callable[[Any], Any] | None) -> Any:
    """What a verb returns: the body, the pair with references, or the whole result."""
    body = shape(result.body) if shape else result.body
    if wanted.get("envelope"):
        return replace(result, body=body)
    if str(wanted.get("refs", "")).lower() in ("1", "true"):
        return body, result.references
    return body


def _opened(options: Options) -> Transport:
    """The transport of an API: the one given, or HTTP to the host."""
    given = options.transport
    if given is None:
        from flowkit.client.transport import HttpTransport, check_async_lib

        check_async_lib(getattr(options.async_lib, "__name__", options.async_lib))
        assert options.base_url is not None
        return HttpTransport(options.base_url, verify=options.verify)
    if not hasattr(given, "send") and callable(given):
        given = given(options.base_url)
    return _checked_transport(given)


def _opened_for_sockets(options: Options, beside: Any) -> Transport:
    """The transport to a host that serves the WebSocket sessions alone."""
    from flowkit.client.transport import HttpTransport

    assert options.ws_url is not None
    url = options.ws_url.replace("ws", "http", 1)
    given = options.transport
    if isinstance(beside, HttpTransport):
        return beside.beside(url)
    if given is not None and not hasattr(given, "send") and callable(given):
        return _checked_transport(given(url))
    return HttpTransport(url, verify=options.verify)


def _checked_transport(given: Any) -> Transport:
    if not hasattr(given, "send"):
        raise SettingsError(f"a {type(given).__name__} is not a transport: it has no send()")
    return given  # type: ignore[no-any-return]
