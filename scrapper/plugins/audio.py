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
from dataclasses import dataclass, replace
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
_EVEN_SIZES = "scale=trunc(iw/2)*2:trunc(ih/2)*2"


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
    programs = _Programs(_AudioSettings().plugin_timeout_seconds)
    sounds = [
        sound
        for item in post.media
        if item.type == "video" and (sound := _sound_of(programs, folder, item))
    ]
    return Additions(tuple(sounds)) if sounds else None


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
        self._programs = _Programs(settings.plugin_timeout_seconds)
        self._keep_free = settings.min_free_bytes
        self._max_bytes = settings.max_media_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="convert")
        self._under_way: dict[tuple[str, int], asyncio.Task[MediaItem | None]] = {}

    async def closing(self, app: web.Application) -> AsyncIterator[None]:  # noqa: ARG002
        """End the work under way when the service ends."""
        yield
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._programs.kill()
        for work in list(self._under_way.values()):
            await end(work)

    async def sound(self, post: Post, item: MediaItem) -> MediaItem:
        """The sound of *item*.

        Raises:
            web.HTTPNotFound: it has none.
            DeadlineExceeded, ServerFull: not yet.
        """
        name = _name(item, ".m4a")
        made = None
        if item.type == "video":
            made = await self._made(
                post, name, lambda folder: _sound_of(self._programs, folder, item)
            )
        if made is None:
            raise web.HTTPNotFound(text="The item has no sound")
        return made

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
        made = await self._made(post, name, lambda folder: self._compatible(folder, item, name))
        return made or item

    async def _made(
        self, post: Post, name: str, make: Callable[[Path], MediaItem | None]
    ) -> MediaItem | None:
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

    async def _make(
        self,
        post: Post,
        name: str,
        version: int,
        make: Callable[[Path], MediaItem | None],
    ) -> MediaItem | None:
        folder = self._library.root / post.shortcode
        loop = asyncio.get_running_loop()
        try:
            made = await loop.run_in_executor(self._thread, self._make_file, post, folder, make)
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

    def _make_file(
        self, post: Post, folder: Path, make: Callable[[Path], MediaItem | None]
    ) -> MediaItem | None:
        size = max(item.size for item in post.media)
        check_room(folder, keep_free=self._keep_free, coming=2 * size)
        with storing():
            return make(folder)

    def _compatible(self, folder: Path, item: MediaItem, name: str) -> MediaItem | None:
        """The copy of *item*; None if it needs none."""
        codecs = _codecs_of(self._programs, folder / item.filename)
        if codecs.video == "h264" and codecs.audio in ("aac", None):
            return None
        video = ["copy"] if codecs.video == "h264" else ["libx264", "-vf", _EVEN_SIZES]
        options = ["-c:v", *video, "-c:a", "copy" if codecs.audio == "aac" else "aac"]
        if codecs.video != "h264":
            options += ["-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"]
        options += ["-movflags", "+faststart", "-fs", str(self._max_bytes)]
        made = _converted(self._programs, folder, item, name, options)
        if made.size >= self._max_bytes:
            (folder / name).unlink()
            raise MediaTooLarge
        return made


@dataclass(frozen=True, slots=True)
class _Codecs:
    """The names of a file's codecs, as ffprobe has them; None where there is no such stream."""

    video: str | None
    audio: str | None


def _sound_of(programs: "_Programs", folder: Path, item: MediaItem) -> MediaItem | None:
    """The sound of *item* as a file in *folder*; None if it has none."""
    if item.has_audio is False or _codecs_of(programs, folder / item.filename).audio is None:
        return None
    name = _name(item, ".m4a")
    made = _converted(programs, folder, item, name, ["-vn", "-c:a", "copy"])
    return replace(made, type="audio", width=None, height=None, alt_text=None)


def _codecs_of(programs: "_Programs", path: Path) -> _Codecs:
    shown = ("-show_entries", "stream=codec_type,codec_name", "-of", "json")
    output = programs.run("ffprobe", *_INPUT, *shown, str(path))
    found: dict[str, str] = {}
    for stream in json.loads(output).get("streams", ()):
        found.setdefault(stream.get("codec_type"), stream.get("codec_name", "unknown"))
    return _Codecs(found.get("video"), found.get("audio"))


def _converted(
    programs: "_Programs", folder: Path, item: MediaItem, name: str, options: Sequence[str]
) -> MediaItem:
    """Have ffmpeg make the file *name* of *item*; it appears whole, or not at all."""
    # What a crash leaves there goes at the next start.
    unfinished = folder.parent / ".incoming" / f"{folder.name}.{uuid.uuid4().hex}.part"
    given = ["-i", str(folder / item.filename), "-map", "0:v:0?", "-map", "0:a:0?"]
    try:
        programs.run(
            "ffmpeg", "-nostdin", *_INPUT, *given, *options, "-f", "mp4", "-y", str(unfinished)
        )
        # With its time, which is the post's.
        shutil.copystat(folder / item.filename, unfinished)
        flush(unfinished)
        size = unfinished.stat().st_size
        unfinished.replace(folder / name)
    finally:
        unfinished.unlink(missing_ok=True)
    return replace(item, filename=name, cdn_url="", size=size)


class _Programs:
    """Runs ffmpeg and ffprobe, each for *timeout* seconds at most; one at a time."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, program: str, *arguments: str) -> bytes:
        """What the program prints.

        Raises:
            FFmpegFailed: it fails.
            subprocess.TimeoutExpired: it takes too long.
        """
        with subprocess.Popen(  # noqa: S603 - no shell, and paths of our own
            [*_WRAPPED, program, "-hide_banner", "-loglevel", "error", *arguments],
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

    def kill(self) -> None:
        """End what runs."""
        if self._process is not None:
            self._process.kill()


def _name(item: MediaItem, ending: str) -> str:
    return f"{Path(item.filename).stem}{ending}"
