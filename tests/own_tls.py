"""Both sides of TLS, by an authority of the tests' own: fixtures ``authority`` and ``ca_path``."""

from __future__ import annotations

import ssl


def server_context(authority, name="127.0.0.1", client_authority=None):
    """The server's side of TLS for *name*; asks for a certificate if it is told whose."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if client_authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        client_authority.configure_trust(context)
    return context
