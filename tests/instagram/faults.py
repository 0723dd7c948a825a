"""Ways in which a server can misbehave on the wire."""

import asyncio
import zlib

from aiohttp import web

__all__ = [
    "drip_headers",
    "never_answer",
    "reset_connection",
    "send",
    "send_bare",
    "send_too_much",
]

_PIECE_BYTES = 256 * 1024
_MEGABYTE = 1_000_000
_BOMB_MEGABYTES = 1000


async def never_answer() -> web.Response:
    """Never answer, however long the client waits."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def reset_connection(request: web.Request) -> web.Response:
    """Reset the connection before any answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def drip_headers(request: web.Request) -> web.Response:
    """Send headers at one byte per second."""
    assert request.transport is not None
    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 3600:
        request.transport.write(bytes([byte]))
        await asyncio.sleep(1)
    return web.Response()


async def send_too_much(
    request: web.Request, fault: str, content_type: str
) -> web.StreamResponse | None:
    """Send more than any client should accept: endless, compressed or nested data.

    Return None if *fault* is none of these.
    """
    headers = {"Content-Type": content_type}
    match fault:
        case "endless":
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            while True:
                await response.write(b" " * _PIECE_BYTES)
                # Give the event loop a chance to notice that the client has disconnected.
                await asyncio.sleep(0)
        case "bomb":
            response = web.StreamResponse(headers={**headers, "Content-Encoding": "gzip"})
            await response.prepare(request)
            packer = zlib.compressobj(9, wbits=31)
            for _ in range(_BOMB_MEGABYTES):
                await response.write(packer.compress(b" " * _MEGABYTE))
                await asyncio.sleep(0)
            await response.write(packer.flush())
            return response
        case "nested":
            text = b"[" * 10**6 + b"]" * 10**6
            code = request.match_info.get("shortcode", "").encode()
            script = b'<script type="application/json">{"canonicalRouteName":"x","code":"%b",'
            page = (script + b'"if_not_gated_logged_out":%b}</script>') % (code, text)
            body = text if "json" in content_type else page
            return web.Response(body=body, headers=headers)
        case "values":
            return web.Response(body=b"[" + b"[]," * 10**6 + b"[]]", headers=headers)
        case _:
            return None


async def send(
    request: web.Request,
    body: bytes,
    headers: dict[str, str],
    *,
    piece: int = _PIECE_BYTES,
    pause: float = 0.0,
    only: int | None = None,
    chunked: bool = False,
    gate: asyncio.Event | None = None,
    length: str | None = None,
) -> web.StreamResponse:
    """Send *body* in pieces of *piece* bytes, with a *pause* in seconds after each.

    With *only*, send only that number of bytes, then close the connection. With a *gate*, send the
    first piece at once and the others when the gate opens. *length* is a wrong ``Content-Length``
    to send.
    """
    response = web.StreamResponse(headers=headers)
    if chunked:
        response.enable_chunked_encoding()
    elif length is not None and request.transport is not None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {headers['Content-Type']}\r\n"
        request.transport.write(f"{head}Content-Length: {length}\r\n\r\n".encode() + body)
        request.transport.close()
        return response
    else:
        response.content_length = len(body)
    await response.prepare(request)
    for start in range(0, len(body) if only is None else only, piece):
        await response.write(body[start : start + piece] if only is None else body[start:only])
        if gate is not None:
            await gate.wait()
        await asyncio.sleep(pause)
    if only is not None and request.transport is not None:
        request.transport.close()
    return response


async def send_bare(
    request: web.Request, body: bytes, headers: dict[str, str]
) -> web.StreamResponse:
    """Send *body* without a length, so that only the end of the connection marks its end."""
    assert request.transport is not None
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\n{lines}\r\n"
    request.transport.write(head.encode() + body)
    request.transport.close()
    return web.StreamResponse()
