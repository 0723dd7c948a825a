"""The minimum for HTTP: a bare aiohttp server that sends a file, from memory or from the disk.

``python -m tests.bench.peers.bare PORT FILE``
"""

import sys
from pathlib import Path

from aiohttp import web


def main() -> None:
    port, path = int(sys.argv[1]), Path(sys.argv[2])
    body = b"" if path.stat().st_size > 1_000_000 else path.read_bytes()

    async def scrape(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async def file(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    async def health(_request: web.Request) -> web.Response:
        return web.Response(text="OK")

    app = web.Application()
    app.router.add_post("/scrape", scrape)
    app.router.add_get("/file", file)
    app.router.add_get("/health", health)
    web.run_app(app, host="127.0.0.1", port=port, backlog=1024, access_log=None, print=None)


if __name__ == "__main__":
    main()
