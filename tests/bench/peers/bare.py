"""The limit for HTTP: a bare aiohttp handler that returns the bytes of a file given, or the file.

``python -m tests.bench.peers.bare PORT FILE [--like-ours]``: with the option it reads the body, and
passes five middlewares that do nothing, which is the least that the service could do.
"""

import sys
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler


@web.middleware
async def _nothing(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request)


def main() -> None:
    port, path = int(sys.argv[1]), Path(sys.argv[2])
    body = b"" if path.stat().st_size > 1_000_000 else path.read_bytes()
    like_ours = "--like-ours" in sys.argv

    async def scrape(request: web.Request) -> web.Response:
        if like_ours:
            await request.read()
        return web.Response(body=body, content_type="application/json")

    async def file(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    app = web.Application(middlewares=[_nothing] * 5 if like_ours else [])
    app.router.add_post("/scrape", scrape)
    app.router.add_get("/file", file)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main()
