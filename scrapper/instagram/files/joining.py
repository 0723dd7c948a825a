"""Joins a video file and an audio file without re-encoding them."""

import time
from collections.abc import Sequence
from pathlib import Path

from scrapper.ffmpeg import FFmpeg, FFmpegFailed

__all__ = ["NotJoined", "join"]

_MEMORY_BYTES = 160_000_000
_EXTRA_BYTES = 1_000_000
_CAUSE_LENGTH = 300
_MAX_OFFSET_SECONDS = 60.0


class NotJoined(Exception):
    """ffmpeg could not join the parts. The message gives the cause in one line."""


def join(parts: Sequence[tuple[Path, float]], target: Path, deadline: float) -> None:
    """Join a video and optional audio into *target*, an MP4 that can play while it loads.

    *parts* has the path of each file, and its start in seconds on a common timeline. *deadline* is
    in monotonic time.

    Raises:
        NotJoined: ffmpeg cannot join the parts within its limits.
        TimeoutError: the deadline passed.
    """
    first, last = min(start for _, start in parts), max(start for _, start in parts)
    if last - first > _MAX_OFFSET_SECONDS:
        raise NotJoined("one part starts long after the other")
    arguments: list[str] = ["-nostdin"]
    for path, start in parts:
        arguments += FFmpeg.input(path, delay=start - first)
    # A single part may contain its own audio.
    for stream in ("0:v:0", "1:a:0" if len(parts) > 1 else "0:a:0?"):
        arguments += ["-map", stream]
    arguments += ["-map_metadata", "-1", "-map_chapters", "-1", "-c", "copy", "-strict", "-2"]
    arguments += ["-movflags", "+faststart", "-f", "mp4", str(target)]
    # A hostile file could make ffmpeg repeat its content a million times.
    max_bytes = 2 * sum(path.stat().st_size for path, _ in parts) + _EXTRA_BYTES
    try:
        seconds = deadline - time.monotonic()
        FFmpeg(_MEMORY_BYTES).run("ffmpeg", *arguments, seconds=seconds, max_bytes=max_bytes)
    except FFmpegFailed as error:
        cause = " ".join(str(error).split()).replace(str(target.parent), "")
        raise NotJoined(cause[-_CAUSE_LENGTH:]) from None
    if not target.is_file():
        raise NotJoined("ffmpeg wrote no file")
