"""The services of an API as ``async_()`` and ``lazy()`` offer them: the same verbs, made as calls.

Rules of this module: nothing here waits, and what a verb is made into is the caller's affair.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from flowkit.client.arguments import kept, plain
from flowkit.client.parallel import Verb
from flowkit.errors import UsageError

__all__ = ["ServiceCalls", "calls_of", "names_of"]

Make = Callable[[Verb, tuple[Any, ...], dict[str, Any]], Any]
"""Makes a call of a verb with arguments."""


class ServiceCalls:
    """A service whose verbs are made as parallel calls.

    Args:
        make: makes a call.
        name: of the service, for errors.
        service: the plain service.
        arguments: those of ``api.drop(flow)``, kept, if the flow is not known yet; then *service*
            is ``api.drop`` and the flow's own is made in the green thread.
        thunks: those among *arguments*.
    """

    __slots__ = ("_arguments", "_make", "_name", "_service", "_thunks")

    def __init__(
        self,
        make: Make,
        name: str,
        service: Any,
        arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
        *,
        thunks: Sequence[Any] = (),
    ) -> None:
        self._make = make
        self._name = name
        self._service = service
        self._arguments = arguments
        self._thunks = thunks

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_"):
            raise AttributeError(f"{self._name} has no {verb}")
        method = getattr(self._service, verb, None) if self._arguments else self._verb(verb)
        told = f"{self._name}.{verb}"
        if method is not None and not callable(method):
            return method
        has_one_answer = verb != "find_iter" and not inspect.isgeneratorfunction(method)
        goes_over_api = getattr(self._service, "_api", None) is not None
        wanted = Verb(told, lambda: self._verb(verb), goes_over_api, self._thunks)

        def ask(*args: Any, **kwargs: Any) -> Any:
            if not has_one_answer:
                raise UsageError(
                    f"{told} cannot run in parallel: it asks again and again, it has no one answer",
                    hint=f"use api.{told}(…) itself, or find(…, limit=…) here",
                )
            return self._make(wanted, args, kwargs)

        ask.__name__ = verb
        ask.__doc__ = method.__doc__
        return ask

    def _verb(self, verb: str) -> Any:
        """The plain method; waits for the flow that it is asked of, if that is not known yet."""
        if self._arguments is None:
            return getattr(self._service, verb)
        args, kwargs = plain(self._arguments)
        return getattr(self._service(*args, **kwargs), verb)

    def __call__(self, *args: Any, **kwargs: Any) -> ServiceCalls:
        """The service of one flow: ``calls.drop(flow)``; *flow* may be a thunk. Never waits."""
        if not callable(self._service) or self._arguments is not None:
            raise TypeError(f"{self._name} is not called: use its verbs, {self._name}.find(…)")
        thunks: list[Any] = []
        args, kwargs = kept((args, kwargs), thunks)
        if not thunks:
            return ServiceCalls(self._make, self._name, self._service(*args, **kwargs))
        known_later = (args, kwargs)
        return ServiceCalls(self._make, self._name, self._service, known_later, thunks=thunks)

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._service) if not name.startswith("_")]

    def __repr__(self) -> str:
        return f"<parallel calls of {self._name}>"


def calls_of(api: Any, name: str, make: Make) -> Any:
    """The parallel form of ``api.<name>``: a service, or ``request``.

    Raises:
        AttributeError: *api* has no such name, or it is not something that can run in parallel.
    """
    if name.startswith("_"):
        raise AttributeError(name)
    found = getattr(api, name)
    if name == "request":
        request = Verb(name, lambda: found, hasattr(api, "call"))
        return lambda *args, **kwargs: make(request, args, kwargs)
    if hasattr(type(api), name):  # services are the API's own, methods and options its class's
        raise AttributeError(f"{name} is no service: use api.{name} itself")
    return ServiceCalls(make, name, found)


def names_of(api: Any) -> list[str]:
    """What ``calls_of`` has a parallel form of, for prompts that complete names."""
    names = [name for name in dir(api) if not name.startswith("_") and not hasattr(type(api), name)]
    return [*names, "request"]
