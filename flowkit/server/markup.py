"""HTML of strangers made harmless: what the element type ``html`` stores.

An allow-list, written out again from the parsed text: tags and attributes not on it vanish,
their text stays; what a browser would run (script, style, embedded documents) vanishes with its
text. Applying it twice changes nothing.

Source: protocol 2.2 (``html``: sanitised by the server).
"""

from __future__ import annotations

from html import escape
from html.parser import HTMLParser

__all__ = ["sanitised"]

_TAGS = frozenset(
    "a abbr b blockquote br caption code dd div dl dt em h1 h2 h3 h4 h5 h6 hr i kbd li ol p pre q "
    "s small span strong sub sup table tbody td tfoot th thead tr u ul var".split()
)
_EMPTY_TAGS = frozenset({"br", "hr"})
_ATTRIBUTES = frozenset({"title", "lang", "dir", "colspan", "rowspan"})
_LINK_SCHEMES = ("http://", "https://", "mailto:")
_SWALLOWED = frozenset(
    "script style iframe object embed template noscript svg math textarea title xmp noembed "
    "noframes plaintext select".split()
)


class _Sanitiser(HTMLParser):
    """Writes the allowed part of what it is fed to ``parts``."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._open: list[str] = []
        self._swallowing: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SWALLOWED:
            self._swallowing.append(tag)
        elif tag in _TAGS and not self._swallowing:
            self.parts.append(f"<{tag}{''.join(self._attributes(tag, attrs))}>")
            if tag not in _EMPTY_TAGS:
                self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _SWALLOWED:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._swallowing:
            del self._swallowing[self._swallowing.index(tag) :]
        elif tag in self._open and not self._swallowing:
            # what was opened inside and never closed is closed with it
            while self._open:
                inner = self._open.pop()
                self.parts.append(f"</{inner}>")
                if inner == tag:
                    break

    def handle_data(self, data: str) -> None:
        if not self._swallowing:
            self.parts.append(escape(data, quote=False))

    def finish(self) -> str:
        """Everything written, with what was left open closed."""
        self.close()
        self.parts.extend(f"</{tag}>" for tag in reversed(self._open))
        return "".join(self.parts)

    @staticmethod
    def _attributes(tag: str, attrs: list[tuple[str, str | None]]) -> list[str]:
        kept = {name: value or "" for name, value in attrs if name in _ATTRIBUTES}
        link = dict(attrs).get("href") or ""
        if tag == "a" and link.lower().startswith(_LINK_SCHEMES):
            kept["href"] = link
        return [f' {name}="{escape(value)}"' for name, value in kept.items()]


def sanitised(text: str) -> str:
    """*text* with only harmless markup left in it."""
    sanitiser = _Sanitiser()
    sanitiser.feed(text)
    return sanitiser.finish()
