"""``python -m scrapper fetch``: download posts into a folder, without a server."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from scrapper.assembly import Parts, assemble_fetch
from scrapper.commands.links_file import InvalidLinks, read_links
from scrapper.commands.output import EXIT_CODES, EXIT_USAGE, logs_if_enabled
from scrapper.handlers.request_bodies import PreferenceRequest
from scrapper.jobs.engine import Jobs, running
from scrapper.jobs.model import Job, JobPost, new_job, unix_time
from scrapper.jobs.runner import Runner
from scrapper.jobs.stores.memory import MemoryStore
from scrapper.jobs.waiting import Patience
from scrapper.library.post import Quality
from scrapper.scraping.scraper import Scraped
from scrapper.settings import load_settings

__all__ = ["FetchOptions", "fetch"]

_EXIT_SIGNAL = 128
_POLL_SECONDS = 0.1


class _EarlyExit(Exception):
    """The command must exit early with *code*, after printing *message* if there is one."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


class FetchOptions(NamedTuple):
    """How to download posts, and how to report the outcomes.

    ``into`` is the folder for the posts. If ``ordered`` is true, the outcomes are printed in the
    order of the links. If ``wait`` is false, a post that hits a limit fails at once. ``quality``
    defaults to ``VIDEO_QUALITY``. ``max_mb`` is the maximum size of each file in megabytes.
    """

    into: Path
    ordered: bool = False
    wait: bool = True
    quality: Quality | None = None
    max_mb: float | None = None


def fetch(urls: Sequence[str], files: Sequence[str], options: FetchOptions) -> int:
    """Download the posts at *urls* and those listed in *files*; return the exit code.

    On a terminal, each post has a progress bar. Otherwise, a line of JSON is printed for each
    finished post. It contains what ``POST /scrape`` would return or, if the post failed, ``url``,
    ``status``, ``code`` and ``error``. The exit code is that of the first link that failed, or 0 if
    none failed. If any link does not lead to a post, nothing is downloaded.

    A post that hits a limit waits and is retried. Each post waits for at most
    ``JOB_PATIENCE_SECONDS`` in total.

    SIGINT and SIGTERM end the process at once, with exit code 130 or 143. The process also ends if
    the output cannot be written: with exit code 141 if the reader of a pipe is gone, or with 1 if
    the disk is full. Unfinished downloads are removed.

    Raises:
        SettingsError: a setting is invalid, the folder is not writable, or a running service is
            using it.
    """
    settings = load_settings(media_root=options.into)
    try:
        wanted = read_links(urls, files, max_url_length=settings.max_url_length)
    except InvalidLinks as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if not wanted:
        return 0
    parts = assemble_fetch(settings)
    with logs_if_enabled(settings, lambda: parts.instagram.login.secrets):
        try:
            statuses = asyncio.run(_run(parts, wanted, options))
        except _EarlyExit as ended:
            parts.library.abandon()
            _clean_up(parts)
            if str(ended):
                print(ended, file=sys.stderr)
            # A normal exit would wait for the threads that are still downloading.
            os._exit(ended.code)
    parts.instagram.close()
    _clean_up(parts)
    return next(filter(None, (EXIT_CODES.get(status, 1) for status in statuses)), 0)


def _clean_up(parts: Parts) -> None:
    with suppress(OSError):
        parts.library.incoming.rmdir()
    parts.root.close_and_clean_up()


async def _run(parts: Parts, urls: Sequence[str], options: FetchOptions) -> list[int]:
    """Download the posts at *urls*; return their statuses, in order.

    Raises:
        _EarlyExit: a signal was received, or the output cannot be written.
    """
    if parts.root.was_unused:
        # open() removes unfinished downloads. If another process was using the folder, it may still
        # be writing them.
        await parts.library.open()
    settings = parts.settings
    store = MemoryStore(spacing=settings.seconds_per_query)
    patience = Patience(settings.job_patience_seconds if options.wait else 0.0)
    with _bars() as bars:
        report = _Report(bars, ordered=options.ordered)
        runner = Runner(store, parts.scraper, patience, on_stored=report.keep)
        async with running(store, runner, settings.scrape_concurrency):
            wanted = PreferenceRequest(quality=options.quality, max_mb=options.max_mb)
            preference = wanted.preference(settings.video_quality)
            job = new_job(urls, max_url_length=settings.max_url_length, preference=preference)
            following = asyncio.ensure_future(_follow(Jobs(store), job, report))
            await _unless_signalled(following)
    await parts.scraper.close()
    return [post.status or 0 for post in job.posts]


async def _follow(jobs: Jobs, job: Job, report: "_Report") -> None:
    await jobs.submit(job)
    seen = 0
    async for _ in jobs.follow(job, lambda: _POLL_SECONDS):
        for _, change in job.changes(seen):
            report.show(change["index"], job.posts[change["index"]])
        seen = job.version


class _Report:
    """Shows the progress of posts on *bars*, and prints the finished posts.

    If *ordered* is true, the finished posts are printed in the order of the links.
    """

    def __init__(self, bars: Progress, *, ordered: bool) -> None:
        self._bars = bars
        self._ordered = ordered
        self._by_index: dict[int, TaskID] = {}
        self._stored: dict[int, Scraped] = {}
        self._lines: dict[int, dict[str, Any]] = {}
        self._shown = 0
        self._shown_until = 0.0

    def keep(self, _job_id: str, index: int, scraped: Scraped) -> None:
        """Remember the scraped post at *index* until its outcome is printed."""
        self._stored[index] = scraped

    def show(self, index: int, post: JobPost) -> None:
        """Show the current state of the post at *index*.

        Raises:
            _EarlyExit: the output cannot be written.
        """
        if post.state == "running":
            if index not in self._by_index:
                self._by_index[index] = self._bars.add_task(post.shortcode or post.url, total=None)
            bar = self._by_index[index]
            self._bars.update(bar, completed=post.bytes_done, total=post.bytes_total)
        elif index in self._by_index:
            self._bars.remove_task(self._by_index.pop(index))
        if post.next_try_at is not None:
            self._show_wait(unix_time(post.next_try_at))
        if not post.unfinished:
            self._show_line(index, self._line(index, post))

    def _line(self, index: int, post: JobPost) -> dict[str, Any]:
        if post.state != "done":
            known = {"status": post.status, "code": post.code, "error": post.error}
            return {"url": post.url, **known}
        scraped = self._stored.pop(index)
        text = scraped.stored.to_json(post.url, cached=scraped.cached)
        line: dict[str, Any] = orjson.loads(text)
        return line

    def _show_line(self, index: int, line: dict[str, Any]) -> None:
        if not self._ordered:
            _print(self._bars.console, line)
            return
        self._lines[index] = line
        while self._shown in self._lines:
            _print(self._bars.console, self._lines.pop(self._shown))
            self._shown += 1

    def _show_wait(self, until: float) -> None:
        if until <= self._shown_until + 1:
            return
        self._shown_until = until
        time = datetime.fromtimestamp(until).astimezone()
        text = f"Limit reached: waiting until {time:%H:%M:%S}"
        with suppress(OSError):
            if self._bars.console.is_terminal:
                self._bars.console.print(text)
            else:
                print(text, file=sys.stderr, flush=True)


async def _unless_signalled(work: asyncio.Future[None]) -> None:
    signalled: asyncio.Future[int] = asyncio.Future()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _set_signal, signalled, number)
    either: list[asyncio.Future[Any]] = [work, signalled]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if signalled.done():
        raise _EarlyExit(_EXIT_SIGNAL + signalled.result())
    await work


def _set_signal(signalled: asyncio.Future[int], number: int) -> None:
    if not signalled.done():
        signalled.set_result(number)


def _bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(soft_wrap=True, highlight=False)
    return Progress(
        *columns, TransferSpeedColumn(), console=console, disable=not console.is_terminal
    )


def _print(console: Console, answer: dict[str, Any]) -> None:
    try:
        _write(console, answer)
    except BrokenPipeError:
        raise _EarlyExit(_EXIT_SIGNAL + signal.SIGPIPE) from None
    except OSError as error:
        raise _EarlyExit(1, f"The output cannot be written: {error.strerror}") from None


def _write(console: Console, answer: dict[str, Any]) -> None:
    if not console.is_terminal:
        print(orjson.dumps(answer).decode(), flush=True)
    elif "error" in answer:
        console.print(f"{answer['url']}: {answer['error']}", style="red", markup=False)
    else:
        for file in answer["media"]:
            console.print(file["path"], markup=False)
