"""The stand-in as a whole: a TLS server and proxies in their own thread, and their controls."""

import asyncio
import shutil
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import trustme
from aiohttp import web

from tests.instagram.posts import Posts
from tests.instagram.proxy import Proxy, SocksProxy
from tests.instagram.scenarios import Scenario
from tests.instagram.server import ROOT_FLAGS, ROOT_QUERY, WEB_QUERY, Instagram

__all__ = ["StandIn"]

_HOST = "127.0.0.1"
_NAMES = ("www.instagram.com", "i.instagram.com", "*.cdninstagram.com", "*.fber1-1.fna.fbcdn.net")


class StandIn:
    """Runs the stand-in on loopback for the duration of a ``with`` block.

    *latency* is the delay in seconds before each GraphQL answer, *cdn_latency* the delay before
    each file, and *reel_bytes* the size of a reel.
    """

    def __init__(
        self, *, latency: float = 0.0, cdn_latency: float = 0.0, reel_bytes: int | None = None
    ) -> None:
        self._latency, self._cdn_latency = latency, cdn_latency
        self._posts = Posts(reel_bytes)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="instagram")
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="instagram-"))
        self.ca_bundle = self._folder / "ca.pem"
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        shutil.rmtree(self._folder)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which Instaloader connects to the stand-in."""
        return {
            "HTTPS_PROXY": self.proxy_url,
            "https_proxy": self.proxy_url,
            "NO_PROXY": "",
            "no_proxy": "",
            "REQUESTS_CA_BUNDLE": str(self.ca_bundle),
        }

    def requests(self, kind: str | None = None, shortcode: str | None = None) -> int:
        """Return the number of requests, of all kinds or one *kind*, for all posts or one."""
        return sum(
            count
            for (this_kind, this_shortcode), count in list(self._instagram.requests.items())
            if kind in (None, this_kind) and shortcode in (None, this_shortcode)
        )

    def peak_queries(self) -> int:
        """Return the highest number of queries and pages in progress at the same time."""
        return self._instagram.peak_queries

    def connections(self) -> int:
        """Return the number of TLS connections that were opened."""
        return self._proxy.connections.total()

    def socks_connections(self) -> int:
        """Return the number of TLS connections that were opened through SOCKS."""
        return self._socks.connections.total()

    def bytes_of(self, shortcode: str) -> list[bytes]:
        """Return the contents of the post's files, in order."""
        return [file.content for file in self._instagram.files(shortcode)]

    def reset_counters(self) -> None:
        """Set all counters to zero."""
        self._call(self._instagram.requests.clear)
        self._instagram.peak_queries = 0
        self._call(self._proxy.connections.clear)

    def set_scenario(self, name: str, scenario: Scenario) -> None:
        """Use *scenario* for posts whose shortcode begins with *name*, until :meth:`reset`."""
        self._call(lambda: self._instagram.scenarios.__setitem__(name, scenario))

    def override_answer(self, source: str, answer: str) -> None:
        """Make a source return *answer* for every post.

        *source* is ``api``, ``root``, ``web``, ``page``, ``embed``, ``info``, or, for the start
        page, ``start``.
        """
        self._call(lambda: self._instagram.overrides.__setitem__(source, answer))

    def accept_document(self, doc_id: str) -> None:
        """Accept only *doc_id* as the document of the logged-out web app's query."""
        self._call(lambda: setattr(self._instagram, "doc_ids", {doc_id}))

    def link_scripts(self, scripts: dict[str, bytes]) -> None:
        """Make the start page link to these *scripts*; the keys are their names."""
        self._call(lambda: setattr(self._instagram, "scripts", scripts))

    def set_root_query(self, doc_id: str, flags: dict[str, bool]) -> None:
        """Accept only *doc_id* for ``PolarisPostRootQuery``, and only with these relay *flags*."""
        self._call(lambda: setattr(self._instagram, "root_id", doc_id))
        self._call(lambda: setattr(self._instagram, "root_flags", flags))

    def set_token_form(self, form: str) -> None:
        """Put the token into the start page as ``lsd`` or ``eqmc``, or leave it out (``none``)."""
        self._call(lambda: setattr(self._instagram, "token_form", form))

    def reset(self) -> None:
        """Return to the initial state."""
        self._call(self._instagram.overrides.clear)
        self._call(self._instagram.reset)
        self._call(self._instagram.go.set)
        self._call(self._instagram.media_go.set)
        self.set_token_form("lsd")
        self.accept_document(WEB_QUERY)
        self.set_root_query(ROOT_QUERY, ROOT_FLAGS)
        self.link_scripts({})
        self.reset_counters()

    def hold(self) -> None:
        """Hold back the answers to queries, and the pages of posts, until :meth:`release`."""
        self._call(self._instagram.go.clear)

    def release(self) -> None:
        """Send the answers that were held back, and hold back no more."""
        self._call(self._instagram.go.set)

    def hold_media(self) -> None:
        """Pause files halfway until :meth:`release_media`."""
        self._call(self._instagram.media_go.clear)

    def release_media(self) -> None:
        """Send the rest of the paused files, and pause no more."""
        self._call(self._instagram.media_go.set)

    def _call(self, function: Callable[[], object]) -> None:
        done = threading.Event()

        def run() -> None:
            function()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait()

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self._instagram = Instagram(self._posts, self._latency, self._cdn_latency)
        runner = web.AppRunner(
            self._instagram.application(),
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=0.1,
            keepalive_timeout=600,
        )
        await runner.setup()
        site = web.TCPSite(runner, _HOST, 0, ssl_context=self._tls(), backlog=1024)
        await site.start()
        self._proxy = Proxy(runner.addresses[0][1])
        proxy = await asyncio.start_server(self._proxy.serve, _HOST, 0, backlog=1024)
        self.proxy_url = f"http://{_HOST}:{proxy.sockets[0].getsockname()[1]}"
        self._socks = SocksProxy(runner.addresses[0][1])
        socks = await asyncio.start_server(self._socks.serve, _HOST, 0, backlog=1024)
        self.socks_url = f"socks5h://{_HOST}:{socks.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stopped.wait()
        proxy.close()
        socks.close()
        await runner.cleanup()

    def _tls(self) -> ssl.SSLContext:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_bundle)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*_NAMES).configure_cert(context)
        return context
