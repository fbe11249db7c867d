"""DeviceClient: a device on a platform, with its messages, its properties and its credential.

Everything goes through one file, so it works without a network, for days, across restarts and power
cuts. A client has a few threads of its own: the lanes of its sender, one that listens, one that
keeps the credential fresh, one that calls the application back. The locks are each held for no more
than a look at memory or one commit, never while anything is waited for.

Source: ``docs/howto/provision_a_fleet.rst``, ``docs/reference/devices.rst``, ``positions`` 9.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from time import monotonic
from typing import Any, Self

from flowkit.client.address import base_url
from flowkit.client.credentials import find_profile
from flowkit.device import bounds
from flowkit.device.inbound import Inbound, InboundMessage
from flowkit.device.keeper import Keeper
from flowkit.device.link import HttpLink
from flowkit.device.listener import Listener, Reading
from flowkit.device.messages import Compression, StreamSender, line_of
from flowkit.device.outbox import Outbox, Pending, Receipt
from flowkit.device.properties import DesiredProperties, Properties, ReportedProperties
from flowkit.device.registration import ProvisioningOperation, Registrar, Registration
from flowkit.device.sender import Sender, SenderState
from flowkit.errors import DeadlineExceeded, SettingsError, UsageError
from flowkit.protocol.properties import check_device_id

__all__ = ["DeviceClient"]

_log = logging.getLogger(__name__)

_JOIN_S = 1.0
"""Seconds that each thread is given to end."""

_live: weakref.WeakSet[DeviceClient] = weakref.WeakSet()

OnDesired = Callable[[DesiredProperties], object]
OnEvent = Callable[[str, str], object]


def display(operation: ProvisioningOperation) -> None:
    """Show an operation on standard output, where nothing else was asked for."""
    sys.stdout.write(
        f"This device waits for approval: {operation.verification_code}\n"
        f"  flowkit devices approve {operation.verification_code}\n"
        f"  until {operation.expiration_time}\n"
    )
    sys.stdout.flush()


class DeviceClient:
    """A device on a platform; made by ``start``, used from any thread, closed at the end."""

    def __init__(
        self, outbox: Outbox, registrar: Registrar, link: HttpLink, on_event: OnEvent | None
    ) -> None:
        self._outbox = outbox
        self._registrar = registrar
        self._link = link
        self._on_event = on_event
        self._ended = threading.Event()
        self._desired_callback: OnDesired | None = None
        self._calls: queue.SimpleQueue[DesiredProperties | None] = queue.SimpleQueue()
        self._properties = Properties(outbox, self._desired_changed)
        self._inbound = Inbound(outbox)
        self._keeper = Keeper(registrar, self._take, self._tell)
        self._sender = Sender(
            outbox, link, on_event=self._heard_event, on_refused=self._keeper.renew_now, start=False
        )
        self._listener: Listener | None = None
        self._caller = threading.Thread(
            target=self._call_back, name="flowkit-callbacks", daemon=True
        )

    @classmethod
    def start(
        cls,
        device_id: str | None,
        provisioning_token: str,
        db: str | PathLike[str],
        instance: str | None = None,
        display_provisioning_operation_callback: Callable[
            [ProvisioningOperation], object
        ] = display,
        *,
        desired_properties_updated_callback: OnDesired | None = None,
        account: str | None = None,
        timeout: float | None = None,
        wait: bool = True,
        verify: Any = True,
        on_event: OnEvent | None = None,
        allow_remote_access: bool = False,
        **outbox: Any,
    ) -> Self:
        """Begin to be a device.

        With a credential from an earlier run it returns at once, also without a network. Otherwise
        the device is provisioned: it waits until somebody approves it
        (``flowkit devices approve CODE``), unless its token approves by itself.

        Args:
            device_id: the name of the device; None leaves it to the token or the approver.
            provisioning_token: its secret; ``account/secret`` names the account, too.
            db: the file with everything that must survive; made if it is not there.
            instance: the host of the platform, ``name[:port]`` or a URL; without it
                ``FLOWKIT_HOST`` or the profile.
            display_provisioning_operation_callback: shows the code to people; prints it by default.
            desired_properties_updated_callback: called with the desired properties that are known,
                and with each newer state, one after another on a thread of its own.
            account: the account on the platform; without it ``FLOWKIT_ACCOUNT`` or the profile.
            timeout: seconds to wait for approval; None for as long as it takes.
            wait: False returns at once; messages can be enqueued, and ``state`` says how it goes.
            verify: True, False, the path of a CA bundle, or an ``ssl.SSLContext``.
            on_event: called with a word and a sentence: ``provisioned``, ``online``, ``offline``,
                ``refused``, ``dead``, ``forked``, ``restored``, ``failed``.
            allow_remote_access: not offered.
            outbox: bounds of the file, as ``Outbox`` takes them: ``rows_max``, ``when_full`` …

        Raises:
            UsageError: *device_id* cannot be the name of a device, or another argument is none.
            SettingsError: the platform is not named, or the file belongs to another device with
                messages that were not sent.
            DeadlineExceeded: nobody has approved it in time, or the platform was not reached; the
                next start goes on waiting.
            Forbidden: the token is refused, or the operation was rejected.
            TransportError: the certificate is not trusted, or there is no such host.
        """
        if allow_remote_access:
            raise UsageError("remote access to ports of a device is not offered")
        if device_id is not None:
            check_device_id(device_id)
        on_desired = desired_properties_updated_callback
        _check(db, provisioning_token, on_desired, on_event)
        host, name, secret = _where(instance, account, provisioning_token)
        own = HttpLink(host, name, secret, verify=verify)
        file = Outbox(os.fspath(db), instance=f"{base_url(host)}/{name}", **outbox)
        try:
            registrar = Registrar(
                own,
                secret,
                file,
                device_id=device_id,
                display=display_provisioning_operation_callback,
            )
            client = cls(file, registrar, HttpLink(host, name, secret, verify=verify), on_event)
            client._desired_callback = on_desired
            client._begin(device_id)
        except BaseException:
            file.close()
            raise
        if wait:
            try:
                client._keeper.wait(timeout)
            except BaseException:
                client.close(0)
                raise
        return client

    # Who it is

    @property
    def device_id(self) -> str:
        """The name of the device, as it was finally chosen.

        Raises:
            UsageError: it was not provisioned yet.
        """
        registration = self._keeper.registration
        if registration is None:
            raise UsageError("this device was not provisioned yet", hint="see state")
        return registration.device_id

    @property
    def workspace_id(self) -> str:
        """The account of the platform that the device belongs to."""
        return self._link.account

    @property
    def is_provisioned(self) -> bool:
        """Whether the device has a credential."""
        return self._keeper.registration is not None

    @property
    def state(self) -> SenderState:
        """Whether the platform answers, and why not; waits for nothing."""
        failure = self._keeper.failure
        known = self._sender.state
        return known if failure is None else SenderState(False, str(failure), known.retry_in_s)

    # Messages

    def create_stream_sender(
        self,
        stream_group: str | None = None,
        stream: str | None = None,
        compression: Compression | str | None = None,
    ) -> StreamSender:
        """A sender to one stream.

        Args:
            stream_group: None for the default one.
            stream: None for the default one of the group.
            compression: how its requests are made smaller; not at all by default.
        """
        self._check_open()
        how = Compression.UNCOMPRESSED if compression is None else compression
        self._sender.compress(line_of(stream_group, stream), how)
        return StreamSender(self._outbox, stream_group, stream, self._wait)

    @property
    def pending(self) -> Pending:
        """What is queued and not there yet: count, bytes, and the age of the oldest in seconds."""
        self._check_open()
        return self._outbox.pending

    @property
    def pending_messages_count(self) -> int:
        """How many messages and updates are queued and not there yet."""
        return self.pending.count

    @property
    def outbox(self) -> Outbox:
        """The queue itself: dead letters, reports, bounds."""
        return self._outbox

    def wait_enqueued_messages_sent(self, timeout: float | None = None) -> bool:
        """Wait until everything that is queued now is there; others may go on enqueuing.

        Args:
            timeout: seconds to wait; None for as long as it takes.

        Returns:
            whether it is.

        Raises:
            FlowKitError: the device was not provisioned, and will not be: what ``start`` raises.
        """
        self._check_open()
        deadline = None if timeout is None else monotonic() + timeout
        try:
            self._keeper.wait(timeout)  # the sender has no credential before
        except DeadlineExceeded:
            return False
        left_s = None if deadline is None else max(0.0, deadline - monotonic())
        return not self._sender.flush(left_s).count

    def _wait(self, receipt: Receipt, timeout: float | None) -> None:
        self._check_open()
        self._sender.wait(receipt, timeout)

    # Messages to the device

    def receive(self, timeout: float | None = None) -> InboundMessage | None:
        """The next message from the platform; call its ``ack()`` when it was dealt with.

        Args:
            timeout: seconds to wait; None for as long as it takes.

        Returns:
            None when the time is up. What was not acknowledged comes again after the next start.
        """
        self._check_open()
        return self._inbound.receive(timeout)

    def messages(self) -> Iterator[InboundMessage]:
        """Messages from the platform, as they come, until the client is closed."""
        while not self._ended.is_set():
            try:
                message = self._inbound.receive(1.0)
            except UsageError:
                return
            if message is not None:
                yield message

    # Properties

    def get_desired_properties(self) -> DesiredProperties:
        """The newest desired properties that are known; states in between are passed over."""
        self._check_open()
        return self._properties.desired

    def get_desired_properties_if_newer(
        self, version: int | None = None
    ) -> DesiredProperties | None:
        """The desired properties, if their version is another one than *version*, or it is None.

        A platform that went back to an earlier state has a smaller version: that is news, too.
        """
        desired = self.get_desired_properties()
        return None if version is not None and desired.version == version else desired

    def update_reported_properties(self, properties: Mapping[str, Any]) -> None:
        """Make *properties* the reported document; names that it lacks are removed.

        It is on disk on return, and sent in the background; the newest state wins.

        Raises:
            UsageError: it breaks a rule of documents.
        """
        self._check_open()
        self._properties.report(properties)

    def patch_reported_properties(self, changes: Mapping[str, Any]) -> None:
        """Merge *changes* into the reported document; None removes a name.

        Raises:
            UsageError: it breaks a rule of documents.
        """
        self._check_open()
        self._properties.patch(changes)

    def get_reported_properties(self) -> ReportedProperties:
        """The reported document, and whether the platform has confirmed it."""
        self._check_open()
        return self._properties.reported

    @property
    def any_pending_reported_properties_updates(self) -> bool:
        """Whether the newest reported document is still to be sent."""
        self._check_open()
        return self._properties.is_pending

    # The end

    def close(self, timeout: float = bounds.sender_close_s) -> Pending:
        """Send what can be sent within the time, then stop; always returns.

        Returns:
            what is still queued: false if nothing is. It goes out after the next start.
        """
        if self._ended.is_set():
            return self._last
        if self.is_provisioned and timeout > 0:
            self._sender.flush(timeout)
        self._keeper.end()  # a sender may be waiting for a new credential, which needs a person
        self._last = self._sender.close(0)
        self._ended.set()
        self._inbound.close()
        self._calls.put(None)
        if self._listener is not None:
            self._listener.close(_JOIN_S)
        self._keeper.close(_JOIN_S)
        if self._caller.is_alive() and self._caller is not threading.current_thread():
            self._caller.join(_JOIN_S)
        self._outbox.close()
        _live.discard(self)
        return self._last

    _last = Pending(0, 0, None)

    def _check_open(self) -> None:
        if self._ended.is_set():
            raise UsageError("the device client is closed", hint="DeviceClient.start(…)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        who = self.device_id if self.is_provisioned else "not provisioned"
        return f"<DeviceClient {who} at {self._link.url}>"

    # Inside

    def _begin(self, wanted: str | None) -> None:
        stored = self._registrar.stored()
        is_other = stored is None and self._outbox.device not in (None, wanted)
        if is_other:
            self._refuse_foreign_rows()
        else:
            self._properties.resume()
        if self._properties.is_known and not is_other:
            self._desired_changed(self._properties.desired)
        self._caller.start()
        self._keeper.start(stored)
        _live.add(self)

    def _refuse_foreign_rows(self) -> None:
        """What another device has queued must not go out as this one's."""
        if self._outbox.pending.count:
            raise SettingsError(
                f"{self._outbox.path} holds {self._outbox.pending.count} messages of the device"
                f" {self._outbox.device} that were not sent",
                hint="start it as that device once more, or take a file of its own",
            )

    def _take(self, registration: Registration) -> None:
        """Be that device from now on."""
        box = self._outbox.box
        self._outbox.bind(registration.device_id, self._outbox.instance)
        if self._outbox.box != box:  # it was another device's, whose documents are none of ours
            self._properties.read()
            self._inbound.read()
        self._link.set_token(registration.token)
        if self._listener is None:
            self._listener = self._listening(registration)
            self._listener.start()
            self._sender.start()
        self._sender.wake()

    def _listening(self, registration: Registration) -> Listener:
        def changed(message: Mapping[str, Any]) -> None:
            if message.get("type") == "message":
                self._properties.hear_change(message["value"]["elems"])
            elif message.get("type") == "gap":
                self._read_properties(registration)

        readings = {
            "commands": Reading(
                f"{registration.path}/commands",
                lambda: self._inbound.place,
                self._inbound.hear,
                has_room=lambda: self._inbound.has_room,
            ),
            "properties": Reading(f"{registration.path}/properties", lambda: None, changed),
        }
        made = Listener(self._link, readings, begun=lambda: self._read_properties(registration))
        self._inbound.on_room = made.look_again
        return made

    def _read_properties(self, registration: Registration) -> None:
        """Everything that has changed while nobody listened."""
        said = self._link.ask("GET", ("device", registration.object_id, "properties")).body
        self._properties.hear_all(said)

    def _desired_changed(self, desired: DesiredProperties) -> None:
        if self._desired_callback is not None:
            self._calls.put(desired)

    def _call_back(self) -> None:
        while (desired := self._calls.get()) is not None:
            try:
                if self._desired_callback is not None:
                    self._desired_callback(desired)
            except Exception:  # noqa: BLE001 - the application's error is its own
                _log.exception("the callback of the desired properties failed")

    def _heard_event(self, word: str, text: str) -> None:
        if self._on_event is not None:
            self._on_event(word, text)

    def _tell(self, word: str, text: str) -> None:
        _log.log(logging.INFO if word == "provisioned" else logging.WARNING, "%s: %s", word, text)
        try:
            self._heard_event(word, text)
        except Exception:  # noqa: BLE001 - what a listener does wrong must not stop the client
            _log.exception("a listener failed at %r", word)


def _check(db: object, token: object, *callbacks: object) -> None:
    """Refuse what is no file, no secret or no callback, before anything is made of it."""
    if not isinstance(db, str | PathLike) or not db:
        raise UsageError(f"db={db!r} is no file", hint="the path of a file of this device alone")
    if not isinstance(token, str) or not token:
        raise UsageError("the provisioning token is no text, or empty")
    for each in callbacks:
        if each is not None and not callable(each):
            raise UsageError(f"{each!r} is no callback: it cannot be called")


def _where(instance: str | None, account: str | None, token: str) -> tuple[str, str, str]:
    """Host, account and provisioning token from what was given, else environment or profile."""
    named, _, secret = token.rpartition("/")
    account = account or named or None
    if not instance or not account:
        profile, where = find_profile()
        instance = instance or profile.host
        account = account or profile.account
        if not instance or not account:
            missing = "the host of the platform" if not instance else "the account"
            raise SettingsError(
                f"{missing} is not known ({where})",
                hint="start(instance='https://…', account='…') or FLOWKIT_HOST, FLOWKIT_ACCOUNT",
            )
    return instance, account, secret


@atexit.register
def _close_all() -> None:
    """A script that ends without closing ends cleanly; what is queued stays in its file."""
    for client in list(_live):
        client.close(0)


os.register_at_fork(after_in_child=_live.clear)
