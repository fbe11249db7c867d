"""One function per endpoint, by noun."""
