"""An HTTP proxy (CONNECT alone, RFC 9110 section 9.3.6) that leads to the stand-in."""

import asyncio
from collections import Counter
from contextlib import suppress

__all__ = ["Proxy"]

_HOSTS = ("instagram.com", "cdninstagram.com", "fbcdn.net")
_BUFFER_BYTES = 256 * 1024


class Proxy:
    """Leads connections for Instagram's hosts to *port* of loopback; refuses all others.

    ``connections`` counts them by host.
    """

    def __init__(self, port: int) -> None:
        self.connections: Counter[str] = Counter()
        self._port = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection of a client."""
        with suppress(OSError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            method, target, *_ = request.decode("latin-1").split()
            host, _, port = target.partition(":")
            if method != "CONNECT" or port != "443" or not host.endswith(_HOSTS):
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
            else:
                self.connections[host] += 1
                await self._lead(reader, writer)
        writer.close()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            async with asyncio.TaskGroup() as pipes:
                pipes.create_task(_pipe(reader, server_writer))
                pipes.create_task(_pipe(server_reader, writer))
        except* OSError:
            # A reset on one side is one on the other.
            writer.transport.abort()
        finally:
            server_writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_BUFFER_BYTES):
        writer.write(data)
        await writer.drain()
    writer.close()
