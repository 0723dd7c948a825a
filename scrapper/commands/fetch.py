"""``python -m scrapper fetch``: posts into a folder, without a server."""

import asyncio
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

_LOOKS_A_SECOND = 10


def fetch(urls: Sequence[str], into: Path) -> int:
    """Download the posts of *urls* into folders under *into*; return the exit code.

    On a terminal each post has a progress bar. Elsewhere each has a line of JSON, written when it
    ends: what ``POST /scrape`` would give, or ``url``, ``status``, ``code`` and ``error``. The exit
    code is that of the first of *urls* that failed. If one is not a post's link, nothing is
    downloaded.

    Raises:
        SettingsError: the environment holds wrong settings, or *into* cannot be written.
    """
    settings = load_settings(media_root=into)
    links = []
    for url in urls:
        try:
            links.append(read_link(url, max_length=settings.max_url_length))
        except (InvalidURL, UnsupportedLink):
            print(f"Not the URL of an Instagram post: {url}", file=sys.stderr)
            return EXIT_USAGE
    instagram = Instagram.from_settings(settings)
    # Failures are printed anyway. The log is for users who ask for it.
    level = settings.log_level if "log_level" in settings.model_fields_set else "critical"
    with logs_to(
        sys.stderr, level=level, style="console", more_secrets=lambda: instagram.login.secrets
    ):
        posts = list(zip(links, urls, strict=True))
        statuses = asyncio.run(_fetch_all(settings, instagram, posts))
    instagram.close()
    return next(filter(None, (EXIT_CODES.get(status, 1) for status in statuses)), 0)


async def _fetch_all(
    settings: Settings, instagram: Instagram, posts: Sequence[tuple[Link, str]]
) -> list[int]:
    library = Library(settings.media_root)
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
        statuses = await asyncio.gather(*(fetch_one(*post) for post in posts))
    await scraper.close()
    with suppress(OSError):
        library.incoming.rmdir()
    return statuses


async def _outcome(scraper: Scraper, link: Link, url: str) -> tuple[int, dict[str, Any]]:
    try:
        scraped = await scraper.scrape(await scraper.shortcode_of(link), url)
    except ScrapeError as error:
        status, code, message = RESPONSES[type(error)]
    except OSError as error:
        status, code, _ = INTERNAL_ERROR
        message = f"The post cannot be stored: {error.strerror}"
    else:
        rendered = scraped.stored.rendered
        return 200, orjson.loads(rendered.to_json(original_url=url, cached=scraped.cached))
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
    if not console.is_terminal:
        print(orjson.dumps(answer).decode(), flush=True)
    elif "error" in answer:
        console.print(f"{answer['url']}: {answer['error']}", style="red", markup=False)
    else:
        for file in answer["media"]:
            console.print(file["path"], markup=False)
