"""``python -m scrapper fetch``: posts into a folder, without a server."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from scrapper.errors import INTERNAL_ERROR, RESPONSES, InvalidURL, ScrapeError, UnsupportedLink
from scrapper.instagram.client import Instagram
from scrapper.library.root import MediaRoot
from scrapper.library.store import Library
from scrapper.links import Link, read_link
from scrapper.scraping.peers import Alone
from scrapper.scraping.scraper import Scraper
from scrapper.settings import Settings, load_settings
from scrapper.telemetry.logs import logs_to
from scrapper.telemetry.metrics import Metrics

__all__ = ["EXIT_CODES", "EXIT_USAGE", "fetch"]

EXIT_USAGE = 2
EXIT_CODES: Mapping[int, int] = {200: 0, 404: 3, 403: 4, 429: 5, 503: 6}
"""Exit code by the status that ``POST /scrape`` would give; 1 for any other."""

_EXIT_SIGNAL = 128
_LOOKS_A_SECOND = 10


class _Ended(Exception):
    """The command must end before all posts are there, with the exit code *code*."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


def fetch(urls: Sequence[str], into: Path) -> int:
    """Download the posts of *urls* into folders under *into*; return the exit code.

    On a terminal each post has a progress bar. Elsewhere each has a line of JSON, written when it
    ends: what ``POST /scrape`` would give, or ``url``, ``status``, ``code`` and ``error``. The exit
    code is that of the first of *urls* that failed. If one is not a post's link, nothing is
    downloaded.

    SIGINT and SIGTERM end the process at once, with 130 or 143, and so does an output that takes
    no more: 141 for a pipe whose reader has gone, 1 for a full disk. What was being downloaded is
    removed.

    Raises:
        SettingsError: the environment holds wrong settings, or *into* cannot be written, or a
            running service uses it.
    """
    settings = load_settings(media_root=into)
    links = []
    for url in urls:
        try:
            links.append(read_link(url, max_length=settings.max_url_length))
        except (InvalidURL, UnsupportedLink):
            print(f"Not the URL of an Instagram post: {url}", file=sys.stderr)
            return EXIT_USAGE
    root = MediaRoot(settings.media_root, shared=True)
    root.open()
    library = Library(root.path)
    instagram = Instagram.from_settings(settings)
    # Failures are printed anyway. The log is for users who ask for it.
    level = settings.log_level if "log_level" in settings.model_fields_set else "critical"
    with logs_to(
        sys.stderr, level=level, style="console", more_secrets=lambda: instagram.login.secrets
    ):
        posts = list(zip(links, urls, strict=True))
        try:
            statuses = asyncio.run(_fetch_all(settings, root, library, instagram, posts))
        except _Ended as ended:
            library.abandon()
            _clean_up(root, library)
            if str(ended):
                print(ended, file=sys.stderr)
            # Threads may be in the middle of a download, for as long as its deadline allows.
            os._exit(ended.code)
    instagram.close()
    _clean_up(root, library)
    return next(filter(None, (EXIT_CODES.get(status, 1) for status in statuses)), 0)


def _clean_up(root: MediaRoot, library: Library) -> None:
    with suppress(OSError):
        library.incoming.rmdir()
    root.withdraw()


async def _fetch_all(
    settings: Settings,
    root: MediaRoot,
    library: Library,
    instagram: Instagram,
    posts: Sequence[tuple[Link, str]],
) -> list[int]:
    """Fetch all *posts*; their statuses, in order.

    Raises:
        _Ended: a signal came, or the output takes no more.
    """
    if root.found_free:
        # Else another command's downloads would go.
        await library.open()
    scraper = Scraper.from_settings(settings, library, instagram, Metrics(), Alone())
    # A post's deadline begins when its download does: no client holds a connection for it.
    turns = asyncio.Semaphore(settings.scrape_concurrency)
    bars = _bars()

    async def fetch_one(link: Link, url: str) -> int:
        async with turns, _bar(bars, scraper, link, url):
            status, answer = await _outcome(scraper, link, url)
        _tell(bars.console, answer)
        return status

    with bars:
        fetching = asyncio.gather(*(fetch_one(*post) for post in posts))
        statuses = await _unless_signalled(fetching)
    await scraper.close()
    return statuses


async def _unless_signalled(work: asyncio.Future[list[int]]) -> list[int]:
    signalled: asyncio.Future[int] = asyncio.Future()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _note, signalled, number)
    either: list[asyncio.Future[Any]] = [work, signalled]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if signalled.done():
        raise _Ended(_EXIT_SIGNAL + signalled.result())
    return await work


def _note(signalled: asyncio.Future[int], number: int) -> None:
    if not signalled.done():
        signalled.set_result(number)


async def _outcome(scraper: Scraper, link: Link, url: str) -> tuple[int, dict[str, Any]]:
    try:
        scraped = await scraper.scrape(await scraper.shortcode_of(link), url)
    except ScrapeError as error:
        status, code, message = RESPONSES[type(error)]
    except OSError as error:
        status, code, _ = INTERNAL_ERROR
        message = f"The post cannot be stored: {error.strerror}"
    else:
        stored = scraped.stored
        text = stored.rendered.to_json(original_url=url, kept=stored.kept, cached=scraped.cached)
        return 200, orjson.loads(text)
    return status, {"url": url, "status": status, "code": code, "error": message}


def _bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(soft_wrap=True, highlight=False)
    return Progress(
        *columns, TransferSpeedColumn(), console=console, disable=not console.is_terminal
    )


@asynccontextmanager
async def _bar(bars: Progress, scraper: Scraper, link: Link, url: str) -> AsyncIterator[None]:
    """A progress bar for the post while the block runs; it has no figures for a share link."""
    shortcode = link if isinstance(link, str) else ""
    bar = bars.add_task(shortcode or url, total=None)

    async def follow() -> None:
        while True:
            progress = scraper.progress(shortcode)
            if progress is not None:
                bars.update(bar, completed=progress.done, total=progress.total)
            await asyncio.sleep(1 / _LOOKS_A_SECOND)

    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        bars.remove_task(bar)


def _tell(console: Console, answer: dict[str, Any]) -> None:
    try:
        _write(console, answer)
    except BrokenPipeError:
        raise _Ended(_EXIT_SIGNAL + signal.SIGPIPE) from None
    except OSError as error:
        raise _Ended(1, f"The output cannot be written: {error.strerror}") from None


def _write(console: Console, answer: dict[str, Any]) -> None:
    if not console.is_terminal:
        print(orjson.dumps(answer).decode(), flush=True)
    elif "error" in answer:
        console.print(f"{answer['url']}: {answer['error']}", style="red", markup=False)
    else:
        for file in answer["media"]:
            console.print(file["path"], markup=False)
