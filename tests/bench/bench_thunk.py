"""What a thunk costs above the value: made and read once, and read again; against two proxies."""

import lazy_object_proxy
import wrapt
from timing import best_of, show

from flowkit.client.thunk import UNKNOWN, GreenThunk, Mode

MODE = Mode()
VALUE = {"id": "f5a2c12009b1e4d7a6c3f0031"}


class Ready:
    """A source whose value is there, as that of a call that has ended."""

    __slots__ = ("known", "mode")

    is_ready = True

    def __init__(self):
        self.known = UNKNOWN
        self.mode = MODE

    def wait(self, timeout_s):
        """Nothing to wait for."""
        return True

    def value(self):
        """The value."""
        return VALUE

    def describe(self):
        """Nothing to tell."""
        return "ready"


def main() -> None:
    """Print microseconds; the first line of each group is what the others are compared with."""
    ready = lambda: VALUE  # noqa: E731 - the factory that the other proxies are given
    print("  made and read once (the value is there)")
    show(
        best_of(
            20_000,
            15,
            {
                "lazy-object-proxy (C)": lambda: lazy_object_proxy.Proxy(ready)["id"],
                "GreenThunk, with its source": lambda: GreenThunk(Ready())["id"],
                "no proxy: a function call": lambda: ready()["id"],
            },
        ),
        "us",
        1e6,
    )
    show(
        best_of(500, 15, {"wrapt.LazyObjectProxy": lambda: wrapt.LazyObjectProxy(ready)["id"]}),
        "us",
        1e6,
    )
    print("  read again")
    ours, theirs, third = (
        GreenThunk(Ready()),
        lazy_object_proxy.Proxy(ready),
        wrapt.LazyObjectProxy(ready),
    )
    for name, read in {
        "[key]": lambda x: x["id"],
        ".get(key)": lambda x: x.get("id"),
        "len": len,
        "==": lambda x: x == VALUE,
    }.items():
        print(f"  {name}")
        show(
            best_of(
                20_000,
                9,
                {
                    "  lazy-object-proxy (C)": lambda read=read: read(theirs),
                    "  GreenThunk": lambda read=read: read(ours),
                    "  wrapt.LazyObjectProxy": lambda read=read: read(third),
                    "  the value itself": lambda read=read: read(VALUE),
                },
            ),
            "us",
            1e6,
        )


if __name__ == "__main__":
    main()
