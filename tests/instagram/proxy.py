"""Proxies in front of the stand-in: HTTP (CONNECT only, RFC 9110 section 9.3.6) and SOCKS 5."""

import asyncio
from collections import Counter
from contextlib import suppress

__all__ = ["Proxy", "SocksProxy"]

_HOSTS = ("instagram.com", "cdninstagram.com", "fbcdn.net")
_SOCKS_NAME, _HTTPS = 3, 443
_BUFFER_BYTES = 256 * 1024


class Proxy:
    """Forwards connections to Instagram's hosts to *port* on loopback, and refuses all others.

    ``connections`` counts the forwarded connections by host.
    """

    def __init__(self, port: int) -> None:
        self.connections: Counter[str] = Counter()
        self._port = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle a client's connection."""
        with suppress(OSError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            method, target, *_ = request.decode("latin-1").split()
            host, _, port = target.partition(":")
            if method != "CONNECT" or port != "443" or not host.endswith(_HOSTS):
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
            else:
                self.connections[host] += 1
                await self._tunnel(reader, writer, b"HTTP/1.1 200 Connection established\r\n\r\n")
        writer.close()

    async def _tunnel(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greeting: bytes
    ) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(greeting)
        try:
            async with asyncio.TaskGroup() as pipes:
                pipes.create_task(_pipe(reader, server_writer))
                pipes.create_task(_pipe(server_reader, writer))
        except* OSError:
            # Forward a reset from one side to the other.
            writer.transport.abort()
        finally:
            server_writer.close()


class SocksProxy(Proxy):
    """The same proxy with SOCKS 5 (RFC 1928), without authentication, and for host names only."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            _, methods = await reader.readexactly(2)
            await reader.readexactly(methods)
            writer.write(b"\x05\x00")
            *_, kind = await reader.readexactly(4)
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            port = int.from_bytes(await reader.readexactly(2))
            allowed = kind == _SOCKS_NAME and port == _HTTPS and host.endswith(_HOSTS)
            writer.write(bytes([5, 0 if allowed else 2, 0, 1]) + bytes(6))
            await writer.drain()
            if allowed:
                self.connections[host] += 1
                await self._tunnel(reader, writer, b"")
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_BUFFER_BYTES):
        writer.write(data)
        await writer.drain()
    writer.close()
