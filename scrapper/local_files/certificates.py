"""A certificate and its key, in two files of PEM."""

import ssl
from pathlib import Path

__all__ = ["load_certificate"]


def load_certificate(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a server needs to speak TLS with the *certificate*.

    Raises:
        ValueError: they do not belong together, or are something else; the text holds neither.
        OSError: one cannot be read.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password, OpenSSL would ask for that of an encrypted key on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        reason = (error.reason or "no PEM").replace("_", " ").lower()
        raise ValueError(
            f"{certificate} and {key} are not a certificate and its plain key in PEM: {reason}"
        ) from None
    return context
