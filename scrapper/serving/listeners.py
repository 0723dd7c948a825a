"""Listens on an address, with or without TLS, and on a Unix socket if one is configured."""

import asyncio
import errno
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path

import structlog

from scrapper.errors import SettingsError
from scrapper.library.disk import identity
from scrapper.local_files.certificates import load_certificate
from scrapper.local_files.opening import read_file
from scrapper.local_files.watching import WatchedFile
from scrapper.settings import Settings
from scrapper.tasks import end, in_background
from scrapper.telemetry.log_throttle import LogThrottle

__all__ = ["Certificate", "listening", "tcp_listener", "unix_listener"]

log = structlog.get_logger(__name__)

_BACKLOG = 1024
_MAX_BYTES = 1_000_000
_POLL_SECONDS = 1.0
_PROBE_SECONDS = 1.0


@asynccontextmanager
async def listening(
    settings: Settings, connect: Callable[[], asyncio.Protocol]
) -> AsyncIterator[tuple[str, int]]:
    """Accept connections while the block runs, with protocols from *connect*; yield host and port.

    Raises:
        SettingsError: an address or the certificate cannot be used.
    """
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as opened:
        certificate = await asyncio.to_thread(Certificate.from_settings, settings)
        if settings.unix_socket:
            own = unix_listener(settings.unix_socket, settings.unix_socket_mode)
            server = await loop.create_unix_server(
                connect, sock=opened.enter_context(own), backlog=_BACKLOG
            )
            opened.callback(server.close)
        listener = tcp_listener(settings.host, settings.port)
        server = await loop.create_server(
            connect,
            sock=listener,
            backlog=_BACKLOG,
            ssl=certificate.context if certificate else None,
            ssl_handshake_timeout=settings.client_timeout_seconds if certificate else None,
        )
        opened.callback(server.close)
        if certificate:
            opened.push_async_callback(end, in_background(certificate.follow(), "certificate"))
        host, port, *_ = listener.getsockname()
        yield host, port


class Certificate:
    """A certificate and its key, in two PEM files that may be renewed at any time.

    New connections use the latest valid pair. Open connections are not affected.

    Raises:
        SettingsError: the files cannot be read, or do not match.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._paths = certificate, key
        self._watched = [WatchedFile(path, _digest) for path in self._paths]
        self._unusable = LogThrottle()
        try:
            self._loaded = self._digests()
            self.context = self._current = load_certificate(*self._paths)
        except (OSError, ValueError) as error:
            raise SettingsError(f"TLS_CERT_FILE, TLS_KEY_FILE: {_describe(error)}") from None
        # OpenSSL calls this for each handshake, even if the client sends no server name.
        self.context.sni_callback = self._set_current

    @classmethod
    def from_settings(cls, settings: Settings) -> "Certificate | None":
        """Load the certificate that *settings* name, or return None if they name none. Blocking."""
        if settings.tls_cert_file is None or settings.tls_key_file is None:
            return None
        return cls(settings.tls_cert_file, settings.tls_key_file)

    def reload_if_changed(self) -> None:
        """Reload the files if they changed. If they are unusable, keep the old pair. Blocking."""
        try:
            digests = self._digests()
            if digests != self._loaded:
                self._current = load_certificate(*self._paths)
                self._loaded = digests
                log.info("certificate renewed")
        except (OSError, ValueError) as error:
            if self._unusable.is_due(cause := _describe(error)):
                log.error("certificate unusable: keeping the old one", cause=cause)  # noqa: TRY400
        else:
            self._unusable.reset()

    async def follow(self) -> None:
        """Reload changed files, checking once a second, until the task is cancelled."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            await asyncio.to_thread(self.reload_if_changed)

    def _digests(self) -> list[str]:
        return [watched.content() for watched in self._watched]

    def _set_current(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> None:
        connection.context = self._current


@contextmanager
def unix_listener(path: Path, mode: int) -> Iterator[socket.socket]:
    """Listen on a socket at *path* with the permissions *mode*; remove it after the block.

    A socket that a killed process left behind is replaced.

    Raises:
        SettingsError: another process is listening there, *path* is not a socket, or the socket
            cannot be created.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            _remove_stale(path)
            listener.bind(str(path))
            # No client can connect before listen().
            path.chmod(mode)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise SettingsError(
                f"UNIX_SOCKET: cannot listen on {path}: {error.strerror}"
            ) from error
        ours = identity(path)
        try:
            yield listener
        finally:
            # A process started in the meantime may have replaced the socket with its own.
            if identity(path) == ours:
                path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    """Remove the socket at *path* if no process is listening on it.

    Raises:
        OSError: a process is listening on it, or *path* is not a socket.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.EEXIST, "the file exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "another process is listening there")


def tcp_listener(host: str, port: int, setting: str = "PORT") -> socket.socket:
    """Return a socket that listens on *host* and *port*.

    *setting* is the name of the setting for the port, for error messages.

    Raises:
        SettingsError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"HOST, {setting}: cannot listen on {host}:{port}: {error.strerror}"
        ) from error


def _digest(path: Path) -> str:
    return sha256(read_file(path, _MAX_BYTES)).hexdigest()


def _describe(error: OSError | ValueError) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
