"""Keeps the credential of a device: a thread that obtains it, renews it, and obtains it anew."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic, time

from flowkit.device import bounds
from flowkit.device.pauses import about_s
from flowkit.device.registration import Registrar, Registration
from flowkit.errors import (
    DeadlineExceeded,
    FlowKitError,
    PlatformError,
    TransportError,
    UsageError,
)

__all__ = ["Keeper"]

_log = logging.getLogger(__name__)


class Keeper:
    """The credential of one device.

    Args:
        registrar: obtains and renews it.
        taken: called with each registration before anybody else sees it.
        told: called with a word and a sentence: ``provisioned``, ``failed``.

    Attributes:
        registration: the present one; None before the first.
        failure: why there is none and will be none.
    """

    def __init__(
        self,
        registrar: Registrar,
        taken: Callable[[Registration], object],
        told: Callable[[str, str], object],
    ) -> None:
        self._registrar = registrar
        self._taken = taken
        self._told = told
        self._ended = threading.Event()
        self._turn = threading.Condition()
        self._renewing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="flowkit-credential", daemon=True)
        self.registration: Registration | None = None
        self.failure: FlowKitError | None = None

    def start(self, stored: Registration | None) -> None:
        """Begin, with what an earlier run has obtained."""
        if stored is not None:
            self._take(stored)
        self._thread.start()

    def wait(self, timeout_s: float | None) -> None:
        """Return once there is a registration.

        Raises:
            DeadlineExceeded: the time is up.
            UsageError: it was closed meanwhile.
            FlowKitError: there will be none.
        """
        deadline = None if timeout_s is None else monotonic() + timeout_s
        with self._turn:
            while self.registration is None and self.failure is None:
                left_s = 1.0 if deadline is None else min(1.0, deadline - monotonic())
                if left_s <= 0:
                    raise DeadlineExceeded(self._registrar.why_not_yet())
                if self._ended.is_set():
                    raise UsageError("the device client is closed")
                self._turn.wait(left_s)
        if self.failure is not None:
            raise self.failure

    def renew_now(self) -> bool:
        """Renew the credential, which was refused; whether there is a new one."""
        before = self.registration
        with self._renewing:
            if before is None or self._ended.is_set():
                return False
            if self.registration is not before:  # another thread has renewed it meanwhile
                return True
            made = self._registrar.renew(before)
            if made is None:
                self._told("failed", "the platform knows the credential of this device no more")
                made = self._registrar.obtain(self._ended, None)
            self._take(made)
            return True

    def end(self) -> None:
        """Wait for nobody any more."""
        self._ended.set()

    def close(self, timeout_s: float) -> None:
        """Stop; returns within the time."""
        self._ended.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _take(self, made: Registration) -> None:
        self._taken(made)
        with self._turn:
            self.registration = made
            self.failure = None
            self._turn.notify_all()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._step()
            except (TransportError, PlatformError) as error:
                if not self._fail(error):
                    return
                self._ended.wait(about_s(bounds.sender_retry_max_s))
            except FlowKitError as error:
                self._fail(error)
                return
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                _log.exception("the thread of the credential failed")
                self._fail(FlowKitError(str(error)))
                return

    def _step(self) -> None:
        """Obtain the credential, or renew it when it is time."""
        if self.registration is None:
            made = self._registrar.obtain(self._ended, None)
            self._take(made)
            self._told("provisioned", f"this is the device {made.device_id}")
        registration = self.registration
        if registration is not None:
            due_s = self._registrar.renewal_in_s(registration, time())
            if not self._ended.wait(threading.TIMEOUT_MAX if due_s is None else due_s):
                self.renew_now()

    def _fail(self, error: FlowKitError) -> bool:
        """Note a failure; whether to go on: a device that has a credential does."""
        if self._ended.is_set():
            return False
        if self.registration is None:
            with self._turn:
                self.failure = error
                self._turn.notify_all()
        self._told("failed", str(error))
        return self.registration is not None
