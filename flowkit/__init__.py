"""flowkit: streams of device data, asked for in Python."""

from flowkit._version import __version__

__all__ = ["__version__"]
