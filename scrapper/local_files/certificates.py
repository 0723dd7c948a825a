"""A certificate and its key, in two files of PEM."""

import ssl
from pathlib import Path

__all__ = ["load_certificate"]


def load_certificate(certificate: Path, key: Path) -> ssl.SSLContext:
    """A TLS context for a server with the *certificate* and its *key*.

    Raises:
        ValueError: the files are not a pair in PEM; the text quotes neither.
        OSError: a file cannot be read.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without this, OpenSSL would ask on the terminal for the password of an encrypted key.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        reason = (error.reason or "no PEM").replace("_", " ").lower()
        raise ValueError(
            f"{certificate} and {key} are not a certificate and its plain key in PEM: {reason}"
        ) from None
    return context
