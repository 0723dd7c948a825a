"""``python -m scrapper fetch``: posts into a folder, without a server."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import structlog
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from scrapper.commands.links_file import GivenLink, WrongLinks, read_links
from scrapper.commands.output import EXIT_CODES, EXIT_USAGE, logs_if_asked
from scrapper.errors import INTERNAL_ERROR, RESPONSES, ScrapeError
from scrapper.instagram.client import Instagram
from scrapper.jobs.backlog import Backlog, Place
from scrapper.jobs.runner import pause_after
from scrapper.library.root import MediaRoot
from scrapper.library.store import Library
from scrapper.links import Link
from scrapper.scraping.peers import Alone
from scrapper.scraping.scraper import Scraper
from scrapper.settings import Settings, load_settings
from scrapper.telemetry.metrics import Metrics

__all__ = ["FetchOptions", "fetch"]

log = structlog.get_logger(__name__)

_EXIT_SIGNAL = 128
_LOOKS_A_SECOND = 10


class _Ended(Exception):
    """The command must end before all posts are there, with the exit code *code*."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


class FetchOptions(NamedTuple):
    """How to download posts: into which folder, and how to report the outcomes.

    With ``ordered`` the lines come in the order of the links. Without ``wait`` a post that meets a
    limit fails at once.
    """

    into: Path
    ordered: bool = False
    wait: bool = True


def fetch(urls: Sequence[str], files: Sequence[str], options: FetchOptions) -> int:
    """Download the posts of *urls*, and those that *files* list; return the exit code.

    On a terminal each post has a progress bar. Elsewhere each has a line of JSON, written when it
    ends: what ``POST /scrape`` would give, or ``url``, ``status``, ``code`` and ``error``. The exit
    code is that of the first link that failed. If one is not a post's link, nothing is downloaded.

    Posts that meet a limit are tried again, for ``JOB_PATIENCE_SECONDS`` in all.

    SIGINT and SIGTERM end the process at once, with 130 or 143, and so does an output that takes
    no more data: 141 if a pipe's reader is gone, 1 for a full disk. What was being downloaded is
    removed.

    Raises:
        SettingsError: the environment holds wrong settings, or the folder cannot be written, or a
            running service uses it.
    """
    settings = load_settings(media_root=options.into)
    try:
        links = read_links(urls, files, max_url_length=settings.max_url_length)
    except WrongLinks as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if not links:
        return 0
    root = MediaRoot(settings.media_root, shared=True)
    root.open()
    library = Library(root.path)
    instagram = Instagram.from_settings(settings)
    with logs_if_asked(settings, lambda: instagram.login.secrets):
        try:
            statuses = asyncio.run(_run(settings, root, library, instagram, links, options))
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


async def _run(  # noqa: PLR0917 - each is of another type
    settings: Settings,
    root: MediaRoot,
    library: Library,
    instagram: Instagram,
    links: Sequence[GivenLink],
    options: FetchOptions,
) -> list[int]:
    """Fetch all *links*; their statuses, in order.

    Raises:
        _Ended: a signal came, or the output takes no more.
    """
    if root.found_free:
        # Otherwise this would remove the downloads of another command.
        await library.open()
    scraper = Scraper.from_settings(settings, library, instagram, Metrics(), Alone())
    with _bars() as bars:
        fetching = asyncio.ensure_future(_Fetching(settings, scraper, links, options, bars).run())
        statuses = await _unless_signalled(fetching)
    await scraper.close()
    return statuses


class _Outcome(NamedTuple):
    """The status of ``POST /scrape``, the line to print, and the pause after a limit."""

    status: int
    line: dict[str, Any]
    pause: float | None = None


class _Fetching:
    """Downloads *links*, ``SCRAPE_CONCURRENCY`` at a time; those that meet a limit wait in line."""

    def __init__(
        self,
        settings: Settings,
        scraper: Scraper,
        links: Sequence[GivenLink],
        options: FetchOptions,
        bars: Progress,
    ) -> None:
        self._concurrency = settings.scrape_concurrency
        self._patience = settings.job_patience_seconds if options.wait else 0.0
        self._ordered = options.ordered
        self._scraper = scraper
        self._links = links
        self._bars = bars
        self._queue: asyncio.PriorityQueue[int] = asyncio.PriorityQueue()
        self._backlog = Backlog(settings.seconds_a_query)
        self._waited: set[int] = set()
        self._gives_up_at: dict[int, float] = {}
        self._told_until = 0.0
        self._outcomes: dict[int, _Outcome] = {}
        self._told = 0
        self._finished = asyncio.Event()

    async def run(self) -> list[int]:
        """Download all; their statuses, in order.

        Raises:
            _Ended: the output takes no more.
        """
        for index in range(len(self._links)):
            self._queue.put_nowait(index)
        tasks = [asyncio.create_task(self._work()) for _ in range(self._concurrency)]
        tasks.append(asyncio.create_task(self._let_go()))
        ended = asyncio.create_task(self._finished.wait())
        try:
            done, _ = await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, ended):
                task.cancel()
            await asyncio.gather(*tasks, ended, return_exceptions=True)
        return [self._outcomes[index].status for index in range(len(self._links))]

    async def _let_go(self) -> None:
        while True:
            self._queue.put_nowait((await self._backlog.next()).position)

    async def _work(self) -> None:
        while True:
            index = await self._queue.get()
            given = self._links[index]
            if await self._is_behind_others(index, given.link):
                self._wait(index, 0.0)
                continue
            # A post's deadline begins here: no client holds a connection for it.
            async with _bar(self._bars, self._scraper, given):
                outcome = await _outcome(self._scraper, given)
            if outcome.pause is not None and self._may_wait(index, outcome.pause):
                self._wait(index, outcome.pause)
                continue
            if outcome.pause is not None:
                self._backlog.hold(outcome.pause)
            elif index in self._waited:
                self._backlog.note_success()
            self._note(index, outcome)

    async def _is_behind_others(self, index: int, link: Link) -> bool:
        if not self._backlog or index in self._waited:
            return False
        return not (isinstance(link, str) and await self._scraper.has(link))

    def _may_wait(self, index: int, pause: float) -> bool:
        now = time.monotonic()
        return now + pause <= self._gives_up_at.get(index, now + self._patience)

    def _wait(self, index: int, pause: float) -> None:
        self._waited.add(index)
        if pause:
            self._gives_up_at.setdefault(index, time.monotonic() + self._patience)
        until = self._backlog.join(Place(0.0, "", index), pause)
        if until > self._told_until + 1:
            self._told_until = until
            moment = datetime.fromtimestamp(until).astimezone()
            text = f"Instagram allows no more for now: waiting until {moment:%H:%M:%S}"
            with suppress(OSError):
                if self._bars.console.is_terminal:
                    self._bars.console.print(text)
                else:
                    print(text, file=sys.stderr, flush=True)

    def _note(self, index: int, outcome: _Outcome) -> None:
        self._outcomes[index] = outcome
        if not self._ordered:
            _tell(self._bars.console, outcome.line)
        while self._ordered and self._told in self._outcomes:
            _tell(self._bars.console, self._outcomes[self._told].line)
            self._told += 1
        if len(self._outcomes) == len(self._links):
            self._finished.set()


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


async def _outcome(scraper: Scraper, given: GivenLink) -> _Outcome:
    pause = None
    try:
        scraped = await scraper.scrape(await scraper.shortcode_of(given.link), given.url)
    except ScrapeError as error:
        status, code, message = RESPONSES[type(error)]
        pause = pause_after(error)
    except OSError as error:
        status, code, _ = INTERNAL_ERROR
        message = f"The post cannot be stored: {error.strerror}"
    except Exception:
        log.exception("post failed", url=given.url)
        status, code, message = INTERNAL_ERROR
    else:
        text = scraped.stored.to_json(given.url, cached=scraped.cached)
        return _Outcome(200, orjson.loads(text))
    line = {"url": given.url, "status": status, "code": code, "error": message}
    return _Outcome(status, line, pause)


def _bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(soft_wrap=True, highlight=False)
    return Progress(
        *columns, TransferSpeedColumn(), console=console, disable=not console.is_terminal
    )


@asynccontextmanager
async def _bar(bars: Progress, scraper: Scraper, given: GivenLink) -> AsyncIterator[None]:
    """A progress bar for the post while the block runs; it has no figures for a share link."""
    shortcode = given.link if isinstance(given.link, str) else ""
    bar = bars.add_task(shortcode or given.url, total=None)

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
