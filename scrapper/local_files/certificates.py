"""Loads a TLS certificate and its key from two PEM files."""

import ssl
from pathlib import Path

__all__ = ["load_certificate"]


def load_certificate(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a TLS context for a server with this *certificate* and *key*.

    Raises:
        ValueError: the files are not a matching pair in PEM; the message quotes neither file.
        OSError: a file cannot be read.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password, OpenSSL would prompt for one if the key is encrypted.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        reason = (error.reason or "no PEM").replace("_", " ").lower()
        raise ValueError(
            f"{certificate} and {key} are not a certificate and its unencrypted key in PEM: "
            f"{reason}"
        ) from None
    return context
