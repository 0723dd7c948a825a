"""A plugin that extracts the audio of posts, and converts videos to codecs that play anywhere.

Enable it with ``PLUGINS=audio``. It requires ffmpeg and ffprobe on the PATH. The plugin stores the
audio of each video as ``SHORTCODE.m4a``, without re-encoding it. It also stores the song that
accompanies a post's pictures, if Instagram provides the song's URL. If the audio file is missing,
``/download/SHORTCODE?audio=1`` makes it. ``?h264=1`` converts a video to H.264 and AAC if it
uses other codecs. The plugin also makes a small picture of each post, to be shown in lists. For
posts that were stored before the plugin was enabled, it makes the pictures one by one in the
background.
"""

import asyncio
import json
import math
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web
from pydantic_settings import BaseSettings, SettingsConfigDict

from scrapper.errors import (
    DeadlineExceeded,
    InstagramChanged,
    MediaTooLarge,
    PostForbidden,
    PostNotFound,
    ScrapeError,
    ServerFull,
    SettingsError,
)
from scrapper.ffmpeg import FFmpeg, FFmpegFailed, missing_programs
from scrapper.handlers.refusals import NotConvertible, NotStored
from scrapper.handlers.resources import CONVERSIONS, LIBRARY, SETTINGS
from scrapper.instagram.files.kinds import bit_rate, read_movie
from scrapper.instagram.files.song import fetch_song
from scrapper.library.additions import Additions
from scrapper.library.disk import check_room, converting_disk_errors, flush
from scrapper.library.post import SMALL_BYTES, SMALL_PIXELS, MediaItem, Post
from scrapper.library.store import Library
from scrapper.plugins.hooks import hookimpl
from scrapper.settings import Settings
from scrapper.tasks import end, finished, in_background

__all__ = ["configure", "post_stored", "register_routes"]

log = structlog.get_logger(__name__)

_MAX_QUEUED = 16
_SONG_THREADS = 2
_MEMORY_BYTES = 1_000_000_000
_HEADROOM_BYTES = 10_000_000
_H264_OPTIONS = (
    *("libx264", "-vf", "scale=trunc(iw/2)*2:trunc(ih/2)*2"),
    *("-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"),
)
_SOUND = ".m4a"
_SMALL = "small"
_PAGE_SIZE = 100
_RETRY_SECONDS, _PAGE_PAUSE_SECONDS = 60.0, 0.2
_FORMATS = {".jpg": "jpeg_pipe", ".png": "png_pipe", ".webp": "webp_pipe", ".gif": "gif"}
_SCALE_FILTER = (
    f"scale=w='min({SMALL_PIXELS},iw)':h='min({SMALL_PIXELS},ih)'"
    ":force_original_aspect_ratio=decrease,format=yuvj420p"
)
# Values for ffmpeg's JPEG encoder, from the best quality to the worst.
_QUALITIES = ("5", "12", "25")


class _AudioSettings(BaseSettings):
    """The settings that ``post_stored`` needs. The hook is not passed any settings, so these are
    read from the environment.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True)

    plugin_timeout_seconds: float = 900
    scrape_timeout_seconds: float = 55
    max_media_mb: int = 1024
    min_free_disk_mb: int = 100


@hookimpl
def configure(settings: Settings) -> None:  # noqa: ARG001
    """Check that ffmpeg is installed.

    Raises:
        SettingsError: ffmpeg is missing.
    """
    if missing := missing_programs():
        raise SettingsError(f"{' and '.join(missing)} must be on the PATH: install ffmpeg")


@hookimpl
def post_stored(post: Post, folder: Path) -> Additions | None:
    """Store the audio of each video of *post*, the song of its pictures, and a small picture.

    Raises:
        FFmpegFailed, ScrapeError, OSError: an audio file cannot be made or downloaded.
    """
    maker = _Maker(_AudioSettings())
    videos = [item for item in post.media if item.type == "video"]
    sounds = [made for item in videos if (made := maker.sound_of(folder, item))]
    if url := _song_of(post):
        try:
            sounds.append(maker.song_of(folder, post, url))
        except ScrapeError as error:
            if not sounds:
                raise
            log.warning(
                "song not downloaded", shortcode=post.shortcode, outcome=type(error).__name__
            )
    small = None
    try:
        small = maker.small_of(folder, post)
    # The small picture is optional, so its failure must not discard the audio.
    except (FFmpegFailed, OSError) as error:
        log.warning("small picture not made", shortcode=post.shortcode, cause=repr(error))
    return Additions(tuple(sounds), small=small) if sounds or small else None


@hookimpl
def register_routes(app: web.Application) -> Iterable[web.RouteDef]:
    """Add the conversions to ``/download``. The plugin has no routes of its own."""
    conversions = _Conversions(app[LIBRARY], app[SETTINGS])
    app[CONVERSIONS]["audio"] = conversions.sound
    app[CONVERSIONS]["h264"] = conversions.h264
    app.cleanup_ctx.append(conversions.closing)
    app.cleanup_ctx.append(_SmallPictures(app[LIBRARY], app[SETTINGS]).making)
    return ()


class _SmallPictures:
    """Makes small pictures of older posts that do not have one yet."""

    def __init__(self, library: Library, settings: Settings) -> None:
        self._library = library
        self._maker = _Maker(settings)
        self._keep_free = settings.min_free_bytes

    async def making(self, app: web.Application) -> AsyncIterator[None]:  # noqa: ARG002
        """Go through the library once, in the background, while the service runs."""
        work = in_background(self._make_all(), "small pictures")
        yield
        self._maker.kill()
        await end(work)

    async def _make_all(self) -> None:
        cursor, is_done = None, False
        while not is_done:
            try:
                listing = await self._library.list(_PAGE_SIZE, cursor)
                for stored in listing.posts:
                    await self._make(stored.post)
            except (ScrapeError, OSError) as error:
                log.warning("small pictures paused", cause=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                cursor, is_done = listing.next, listing.next is None
                # Without pauses, reading tens of thousands of manifests would slow down startup.
                await asyncio.sleep(_PAGE_PAUSE_SECONDS)

    async def _make(self, post: Post) -> None:
        version = await self._library.version(post.shortcode)
        if post.small is not None or version is None:
            return
        folder = self._library.root / post.shortcode

        def work() -> MediaItem | None:
            check_room(folder, keep_free=self._keep_free)
            with converting_disk_errors():
                return self._maker.small_of(folder, post)

        try:
            made = await finished(asyncio.to_thread(work))
            if made is not None:
                await self._library.add(post.shortcode, _SMALL, Additions(small=made), version)
        # The picture is unreadable, its folder is not writable, something else has its name, or the
        # post was removed in the meantime. Other posts are not affected.
        except (
            FFmpegFailed,
            FileNotFoundError,
            IsADirectoryError,
            NotADirectoryError,
            PermissionError,
            TimeoutError,
        ) as error:
            log.warning("small picture not made", shortcode=post.shortcode, cause=repr(error))


class _Conversions:
    """Makes files for waiting clients. Clients that request the same file share the work.

    ffmpeg makes one file at a time. Songs are downloaded in parallel. A client waits at most
    ``SCRAPE_TIMEOUT_SECONDS``. The work continues after that, and a later request finds the file.
    """

    def __init__(self, library: Library, settings: Settings) -> None:
        self._library = library
        self._timeout = settings.scrape_timeout_seconds
        self._maker = _Maker(settings)
        self._keep_free = settings.min_free_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="convert")
        # A slow download of a song must not delay ffmpeg.
        self._song_threads = ThreadPoolExecutor(_SONG_THREADS, thread_name_prefix="song")
        self._running: dict[tuple[str, int], asyncio.Task[MediaItem | None]] = {}

    async def closing(self, app: web.Application) -> AsyncIterator[None]:  # noqa: ARG002
        """Cancel unfinished work when the service stops."""
        yield
        for threads in (self._thread, self._song_threads):
            threads.shutdown(wait=False, cancel_futures=True)
        self._maker.kill()
        for work in list(self._running.values()):
            await end(work)

    async def sound(self, post: Post, item: MediaItem) -> MediaItem:
        """Return the audio of *item*: a video's audio, or the song that accompanies a picture.

        Raises:
            web.HTTPNotFound: the item has no audio, or the song's URL has expired.
            ScrapeError: the audio is not ready yet, or the song cannot be downloaded now.
        """
        made = None
        if item.type == "video":
            of_video = partial(self._maker.sound_of, item=item)
            made = await self._get_or_make(post, _name(item, _SOUND), of_video, self._thread)
        elif url := _song_of(post):
            song = partial(self._maker.song_of, post=post, url=url)
            try:
                made = await self._get_or_make(post, _song_name(post), song, self._song_threads)
            except (PostNotFound, PostForbidden, InstagramChanged):
                raise web.HTTPNotFound(
                    text="The song's URL has expired: request the post again with refresh"
                ) from None
        if made is None:
            raise web.HTTPNotFound(text="The item has no audio")
        return made

    async def h264(self, post: Post, item: MediaItem) -> MediaItem:
        """Return *item* in H.264 and AAC: *item* itself if it has these codecs, or a copy.

        Raises:
            web.HTTPNotFound: the item is not a video.
            MediaTooLarge: the copy would be too large.
            DeadlineExceeded, ServerFull: the copy is not ready yet.
        """
        if item.type != "video":
            raise web.HTTPNotFound(text="The item is not a video")
        name = _name(item, "_h264.mp4")
        make = partial(self._maker.h264_of, item=item, name=name)
        return await self._get_or_make(post, name, make, self._thread) or item

    async def _get_or_make(
        self, post: Post, name: str, make: "_Make", threads: ThreadPoolExecutor
    ) -> MediaItem | None:
        """Return the file *name*, which *make* creates if it is missing."""
        for item in post.added:
            if item.filename == name:
                return item
        version = await self._library.version(post.shortcode)
        if version is None:
            raise NotStored
        key = (name, version)
        work = self._running.get(key)
        if work is None:
            if len(self._running) >= _MAX_QUEUED:
                raise ServerFull(retry_after=math.ceil(self._timeout))
            work = asyncio.create_task(self._make(post, name, version, make, threads))
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._running[key] = work
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(work)
        except TimeoutError:
            raise DeadlineExceeded from None

    async def _make(
        self, post: Post, name: str, version: int, make: "_Make", threads: ThreadPoolExecutor
    ) -> MediaItem | None:
        folder = self._library.root / post.shortcode

        def work() -> MediaItem | None:
            size = max(item.size for item in post.media)
            check_room(folder, keep_free=self._keep_free, extra_bytes=2 * size)
            with converting_disk_errors():
                return make(folder)

        loop = asyncio.get_running_loop()
        try:
            made = await loop.run_in_executor(threads, work)
            if made is not None:
                await self._library.add(post.shortcode, name, Additions((made,)), version)
            if await self._library.version(post.shortcode) != version:
                # The post was replaced or removed while its file was being made.
                raise NotStored
        except FileNotFoundError:
            raise NotStored from None
        except FFmpegFailed as error:
            # The cause may be a full disk.
            await asyncio.to_thread(check_room, self._library.root, keep_free=self._keep_free)
            log.warning("video not converted", shortcode=post.shortcode, cause=str(error))
            raise NotConvertible from error
        except TimeoutError:
            raise DeadlineExceeded from None
        else:
            return made
        finally:
            del self._running[name, version]


_Make = Callable[[Path], MediaItem | None]
"""A function that makes a file in a post's folder. It returns None if there is nothing to make."""


class _Maker:
    """Makes files from a post's items, each within a time limit."""

    def __init__(self, settings: "Settings | _AudioSettings") -> None:
        self._seconds = settings.plugin_timeout_seconds
        # Songs are downloaded, so the timeout for downloads applies, too.
        self._song_seconds = min(self._seconds, settings.scrape_timeout_seconds)
        self._max_bytes = settings.max_media_mb * 1_000_000
        self._keep_free = settings.min_free_disk_mb * 1_000_000
        self._ffmpeg = FFmpeg(_MEMORY_BYTES)

    def kill(self) -> None:
        """Kill the running ffmpeg processes."""
        self._ffmpeg.kill()

    def sound_of(self, folder: Path, item: MediaItem) -> MediaItem | None:
        """Store the audio of *item* as a file in *folder*; return None if *item* has no audio."""
        if item.has_audio is False or "audio" not in self._codecs_of(folder / item.filename):
            return None
        made = self._convert(folder, item, _name(item, _SOUND), ["-vn", "-c:a", "copy"])
        return replace(made, type="audio", width=None, height=None, alt_text=None)

    def song_of(self, folder: Path, post: Post, url: str) -> MediaItem:
        """Download the song that accompanies the pictures of *post* to a file in *folder*.

        Raises:
            ScrapeError: the song cannot be downloaded now.
        """
        unfinished = _unfinished(folder)
        fetch_song(
            url,
            unfinished.parent,
            unfinished.name,
            seconds=self._song_seconds,
            max_bytes=self._max_bytes,
            keep_free=self._keep_free,
        )
        with _publishing(unfinished, folder / _song_name(post), folder / post.main.filename):
            item = MediaItem("audio", _song_name(post), "", 0, None, None, has_audio=True)
            return _with_properties_of(item, unfinished)

    def h264_of(self, folder: Path, item: MediaItem, name: str) -> MediaItem | None:
        """Convert *item* to a file in *folder*; return None if it already has these codecs.

        Raises:
            MediaTooLarge: the copy would be larger than ``MAX_MEDIA_MB``.
        """
        codecs = self._codecs_of(folder / item.filename)
        video, audio = codecs.get("video"), codecs.get("audio")
        if video == "h264" and audio in ("aac", None):
            return None
        options = ["-c:v", *(["copy"] if video == "h264" else _H264_OPTIONS)]
        options += ["-c:a", "copy" if audio == "aac" else "aac"]
        options += ["-movflags", "+faststart", "-fs", str(self._max_bytes)]
        made = self._convert(folder, item, name, options)
        if made.size >= self._max_bytes:
            (folder / name).unlink()
            raise MediaTooLarge
        return made

    def small_of(self, folder: Path, post: Post) -> MediaItem | None:
        """Make a small picture of *post* in *folder*; return None if its picture is already small.

        Raises:
            FFmpegFailed, OSError: the picture cannot be made.
        """
        name = f"{post.shortcode}_{_SMALL}.jpg"
        if post.small is not None:
            return post.small if post.small.filename == name else None
        picture = post.picture or post.main
        if picture.is_small:
            return None
        source, unfinished = folder / picture.filename, _unfinished(folder)
        form = _FORMATS.get(source.suffix, "mov")
        given = [
            "-nostdin",
            *FFmpeg.input(source, form=form),
            "-frames:v",
            "1",
            "-vf",
            _SCALE_FILTER,
        ]
        with _publishing(unfinished, folder / name, source):
            for quality in _QUALITIES:
                made = ["-q:v", quality, "-f", "image2", "-update", "1", "-y", str(unfinished)]
                self._ffmpeg.run(
                    "ffmpeg", *given, *made, seconds=self._seconds, max_bytes=_HEADROOM_BYTES
                )
                size = unfinished.stat().st_size
                if size <= SMALL_BYTES:
                    return MediaItem("image", name, "", size, None, None)
            raise FFmpegFailed("the picture is too large even at the lowest quality")

    def _codecs_of(self, path: Path) -> dict[str, str]:
        """Return the codec of the first stream of each type, such as ``{"video": "h264"}``."""
        shown = ("-show_entries", "stream=codec_type,codec_name", "-of", "json")
        printed = self._ffmpeg.run("ffprobe", *shown, *FFmpeg.input(path), seconds=self._seconds)
        found: dict[str, str] = {}
        try:
            for stream in json.loads(printed).get("streams", ()):
                found.setdefault(stream.get("codec_type"), stream.get("codec_name", "unknown"))
        except ValueError:
            raise FFmpegFailed("ffprobe printed no JSON: there may be too many streams") from None
        return found

    def _convert(
        self, folder: Path, item: MediaItem, name: str, options: Sequence[str]
    ) -> MediaItem:
        """Make the file *name* from *item*, and publish it atomically."""
        source, unfinished = folder / item.filename, _unfinished(folder)
        with _publishing(unfinished, folder / name, source):
            given = ["-nostdin", *FFmpeg.input(source), "-map", "0:v:0?", "-map", "0:a:0?"]
            made = [*options, "-f", "mp4", str(unfinished)]
            max_bytes = self._max_bytes + _HEADROOM_BYTES
            self._ffmpeg.run("ffmpeg", *given, *made, seconds=self._seconds, max_bytes=max_bytes)
            return _with_properties_of(replace(item, filename=name, cdn_url=""), unfinished)


def _unfinished(folder: Path) -> Path:
    """Return a path for an unfinished file. Files left there are removed at the next start."""
    return folder.parent / ".incoming" / f"{folder.name}.{uuid.uuid4().hex}.part"


@contextmanager
def _publishing(unfinished: Path, place: Path, source: Path) -> Iterator[None]:
    """Publish the *unfinished* file that the block writes: move it to *place*, with the mode and
    times of *source*.
    """
    try:
        yield
        shutil.copystat(source, unfinished)
        flush(unfinished)
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)


def _with_properties_of(item: MediaItem, path: Path) -> MediaItem:
    """Return *item* with the properties of the file at *path*."""
    with path.open("rb") as file:
        movie, size = read_movie(file), path.stat().st_size
    duration = movie.seconds or item.duration
    return replace(
        item,
        size=size,
        width=movie.width,
        height=movie.height,
        duration=duration,
        codec=movie.codec,
        bit_rate=bit_rate(size, duration),
    )


def _song_of(post: Post) -> str | None:
    """Return the URL of the song that accompanies the pictures of *post*, or None if unknown."""
    has_pictures = any(item.type == "image" for item in post.media)
    return post.details.music.url if has_pictures and post.details.music else None


def _song_name(post: Post) -> str:
    return f"{post.shortcode}{_SOUND}"


def _name(item: MediaItem, ending: str) -> str:
    return f"{Path(item.filename).stem}{ending}"
