"""A plugin that makes audio files of videos, and copies of videos that play anywhere.

``PLUGINS=audio``, with ffmpeg and ffprobe on the PATH. The plugin stores the sound of each video as
``SHORTCODE.m4a``, as Instagram encoded it. ``/download/SHORTCODE?audio=1`` makes that file if it is
missing, and ``?h264=1`` makes a copy in H.264 and AAC of a video in other codecs.
"""

import asyncio
import json
import math
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web
from pydantic_settings import BaseSettings, SettingsConfigDict

from scrapper.errors import DeadlineExceeded, MediaTooLarge, ServerFull, SettingsError
from scrapper.handlers.refusals import NotStored
from scrapper.handlers.resources import CONVERSIONS, LIBRARY, SETTINGS
from scrapper.library.additions import Additions
from scrapper.library.disk import check_room, flush, storing
from scrapper.library.post import MediaItem, Post
from scrapper.library.store import Library
from scrapper.plugins.hooks import hookimpl
from scrapper.settings import Settings
from scrapper.tasks import end

__all__ = ["configure", "post_stored", "register_routes"]

log = structlog.get_logger(__name__)

_PROGRAMS = ("ffmpeg", "ffprobe")
_MOST_WAITING = 16
_PROBE_BYTES = 100_000
_ERROR_BYTES = 10_000
# The file comes from outside: ffmpeg opens no other file, and no single allocation is huge.
_INPUT = (
    *("-protocol_whitelist", "file", "-max_alloc", "1000000000", "-max_pixels", "40000000"),
    *("-f", "mov"),
)
# Requests come first, and a killed service leaves no ffmpeg behind.
_WRAPPED = ("setpriv", "--pdeathsig", "KILL", "nice")
_TO_H264 = (
    *("libx264", "-vf", "scale=trunc(iw/2)*2:trunc(ih/2)*2"),
    *("-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"),
)
_SOUND = ".m4a"


class _AudioSettings(BaseSettings):
    """What a hook, which gets no settings, needs to know."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    plugin_timeout_seconds: float = 900


class FFmpegFailed(Exception):
    """ffmpeg cannot convert a file; the text says why."""


@hookimpl
def configure(settings: Settings) -> None:  # noqa: ARG001
    """See that ffmpeg is there.

    Raises:
        SettingsError: it is not.
    """
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        raise SettingsError(f"{' and '.join(missing)} must be on the PATH: install ffmpeg")


@hookimpl
def post_stored(post: Post, folder: Path) -> Additions | None:
    """Make the sound of each video of *post* a file.

    Raises:
        FFmpegFailed, OSError, subprocess.TimeoutExpired: it cannot be made.
    """
    ffmpeg = _FFmpeg(_AudioSettings().plugin_timeout_seconds)
    videos = [item for item in post.media if item.type == "video"]
    sounds = tuple(filter(None, (ffmpeg.sound_of(folder, item) for item in videos)))
    return Additions(sounds) if sounds else None


@hookimpl
def register_routes(app: web.Application) -> Iterable[web.RouteDef]:
    """Let ``/download`` make files; there are no routes of its own."""
    conversions = _Conversions(app[LIBRARY], app[SETTINGS])
    app[CONVERSIONS]["audio"] = conversions.sound
    app[CONVERSIONS]["h264"] = conversions.h264
    app.cleanup_ctx.append(conversions.closing)
    return ()


class _Conversions:
    """Makes files while clients wait, one at a time; clients of the same file share the work.

    A client waits for as long as it would for a scrape. The work goes on after that, and a later
    request finds the file.
    """

    def __init__(self, library: Library, settings: Settings) -> None:
        self._library = library
        self._patience = settings.scrape_timeout_seconds
        self._ffmpeg = _FFmpeg(settings.plugin_timeout_seconds)
        self._keep_free = settings.min_free_bytes
        self._max_bytes = settings.max_media_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="convert")
        self._under_way: dict[tuple[str, int], asyncio.Task[MediaItem | None]] = {}

    async def closing(self, app: web.Application) -> AsyncIterator[None]:  # noqa: ARG002
        """End the work under way when the service ends."""
        yield
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._ffmpeg.kill()
        for work in list(self._under_way.values()):
            await end(work)

    async def sound(self, post: Post, item: MediaItem) -> MediaItem:
        """The sound of *item*.

        Raises:
            web.HTTPNotFound: it has none.
            DeadlineExceeded, ServerFull: not yet.
        """
        if item.type == "video":
            make = partial(self._ffmpeg.sound_of, item=item)
            if made := await self._made(post, _name(item, _SOUND), make):
                return made
        raise web.HTTPNotFound(text="The item has no sound")

    async def h264(self, post: Post, item: MediaItem) -> MediaItem:
        """*item* in H.264 and AAC: itself, if it is so already.

        Raises:
            web.HTTPNotFound: it is not a video.
            MediaTooLarge: the copy would be.
            DeadlineExceeded, ServerFull: not yet.
        """
        if item.type != "video":
            raise web.HTTPNotFound(text="The item is not a video")
        name = _name(item, "_h264.mp4")
        make = partial(self._ffmpeg.h264_of, item=item, name=name, max_bytes=self._max_bytes)
        return await self._made(post, name, make) or item

    async def _made(self, post: Post, name: str, make: "_Make") -> MediaItem | None:
        """The file *name*, which *make* makes if it is not there."""
        for item in post.added:
            if item.filename == name:
                return item
        version = await self._library.version(post.shortcode)
        if version is None:
            raise NotStored
        key = (name, version)
        work = self._under_way.get(key)
        if work is None:
            if len(self._under_way) >= _MOST_WAITING:
                raise ServerFull(retry_after=math.ceil(self._patience))
            work = asyncio.create_task(self._make(post, name, version, make))
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._under_way[key] = work
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.shield(work)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def _make(self, post: Post, name: str, version: int, make: "_Make") -> MediaItem | None:
        folder = self._library.root / post.shortcode

        def work() -> MediaItem | None:
            size = max(item.size for item in post.media)
            check_room(folder, keep_free=self._keep_free, coming=2 * size)
            with storing():
                return make(folder)

        loop = asyncio.get_running_loop()
        try:
            made = await loop.run_in_executor(self._thread, work)
            if made is not None:
                await self._library.add(post.shortcode, name, Additions((made,)), version)
            if await self._library.version(post.shortcode) != version:
                # It was made of files that are gone by now.
                raise NotStored
        except FileNotFoundError:
            raise NotStored from None
        except FFmpegFailed as error:
            # It may have had no room.
            await asyncio.to_thread(check_room, self._library.root, keep_free=self._keep_free)
            log.warning("video not converted", shortcode=post.shortcode, cause=str(error))
            raise web.HTTPUnprocessableEntity(text="ffmpeg cannot convert the file") from error
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded from None
        else:
            return made
        finally:
            del self._under_way[name, version]


_Make = Callable[[Path], MediaItem | None]
"""Makes a file of a post in its folder; None if there is nothing to make."""


class _FFmpeg:
    """Makes files by ffmpeg, one at a time; a program may take *timeout* seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """End what runs."""
        if self._process is not None:
            self._process.kill()

    def sound_of(self, folder: Path, item: MediaItem) -> MediaItem | None:
        """The sound of *item* as a file in *folder*; None if it has none."""
        if item.has_audio is False or "audio" not in self._codecs_of(folder / item.filename):
            return None
        made = self._convert(folder, item, _name(item, _SOUND), ["-vn", "-c:a", "copy"])
        return replace(made, type="audio", width=None, height=None, alt_text=None)

    def h264_of(self, folder: Path, item: MediaItem, name: str, max_bytes: int) -> MediaItem | None:
        """The copy of *item* in *folder*; None if it needs none.

        Raises:
            MediaTooLarge: it would have more than *max_bytes*.
        """
        codecs = self._codecs_of(folder / item.filename)
        video, audio = codecs.get("video"), codecs.get("audio")
        if video == "h264" and audio in ("aac", None):
            return None
        options = ["-c:v", *(["copy"] if video == "h264" else _TO_H264)]
        options += ["-c:a", "copy" if audio == "aac" else "aac"]
        options += ["-movflags", "+faststart", "-fs", str(max_bytes)]
        made = self._convert(folder, item, name, options)
        if made.size >= max_bytes:
            (folder / name).unlink()
            raise MediaTooLarge
        return made

    def _codecs_of(self, path: Path) -> dict[str, str]:
        """The codec of the first stream of each type, by the names that ffprobe has for them."""
        shown = ("-show_entries", "stream=codec_type,codec_name", "-of", "json")
        found: dict[str, str] = {}
        for stream in json.loads(self._run("ffprobe", *shown, str(path))).get("streams", ()):
            found.setdefault(stream.get("codec_type"), stream.get("codec_name", "unknown"))
        return found

    def _convert(
        self, folder: Path, item: MediaItem, name: str, options: Sequence[str]
    ) -> MediaItem:
        """Make the file *name* of *item*; it appears whole, or not at all."""
        # What a crash leaves there goes at the next start.
        unfinished = folder.parent / ".incoming" / f"{folder.name}.{uuid.uuid4().hex}.part"
        given = ["-nostdin", "-i", str(folder / item.filename), "-map", "0:v:0?", "-map", "0:a:0?"]
        try:
            self._run("ffmpeg", *given, *options, "-f", "mp4", str(unfinished))
            # With its time, which is the post's.
            shutil.copystat(folder / item.filename, unfinished)
            flush(unfinished)
            size = unfinished.stat().st_size
            unfinished.replace(folder / name)
        finally:
            unfinished.unlink(missing_ok=True)
        return replace(item, filename=name, cdn_url="", size=size)

    def _run(self, program: str, *arguments: str) -> bytes:
        """What the program prints.

        Raises:
            FFmpegFailed: it fails.
            subprocess.TimeoutExpired: it takes too long.
        """
        with subprocess.Popen(  # noqa: S603 - no shell, and paths of our own
            [*_WRAPPED, program, "-hide_banner", "-loglevel", "error", *_INPUT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            self._process = process
            try:
                output, complaint = process.communicate(timeout=self._timeout)
            finally:
                process.kill()
                self._process = None
        if process.returncode != 0:
            raise FFmpegFailed(complaint[-_ERROR_BYTES:].decode(errors="replace").strip())
        return output[:_PROBE_BYTES]


def _name(item: MediaItem, ending: str) -> str:
    return f"{Path(item.filename).stem}{ending}"
