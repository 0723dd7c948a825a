"""Joins a video and its sound, which are separate files, without encoding either anew."""

import time
from collections.abc import Sequence
from pathlib import Path

from scrapper.ffmpeg import FFmpeg, FFmpegFailed

__all__ = ["NotJoined", "join"]

_MEMORY = 160_000_000
_MORE_BYTES = 1_000_000
_CAUSE_LENGTH = 300
_MOST_APART = 60.0


class NotJoined(Exception):
    """ffmpeg cannot join the parts; the text, of one line, says why."""


def join(parts: Sequence[tuple[Path, float]], target: Path, deadline: float) -> None:
    """Join a video and perhaps a sound into *target*, an MP4 that plays while it loads.

    Each of the *parts* is a file with the second at which it begins on the common time line.
    *deadline* is in monotonic time.

    Raises:
        NotJoined: ffmpeg cannot join them within its bounds.
        TimeoutError: the deadline passed.
    """
    first, last = min(start for _, start in parts), max(start for _, start in parts)
    if last - first > _MOST_APART:
        raise NotJoined("one part begins long after the other")
    arguments: list[str] = ["-nostdin"]
    for path, start in parts:
        arguments += FFmpeg.input(path, delay=start - first)
    # A video without another part may contain its sound.
    for stream in ("0:v:0", "1:a:0" if len(parts) > 1 else "0:a:0?"):
        arguments += ["-map", stream]
    arguments += ["-map_metadata", "-1", "-map_chapters", "-1", "-c", "copy", "-strict", "-2"]
    arguments += ["-movflags", "+faststart", "-f", "mp4", str(target)]
    # A hostile file could make ffmpeg repeat the content a million times.
    most = 2 * sum(path.stat().st_size for path, _ in parts) + _MORE_BYTES
    try:
        seconds = deadline - time.monotonic()
        FFmpeg(_MEMORY).run("ffmpeg", *arguments, seconds=seconds, max_bytes=most)
    except FFmpegFailed as error:
        cause = " ".join(str(error).split()).replace(str(target.parent), "")
        raise NotJoined(cause[-_CAUSE_LENGTH:]) from None
    if not target.is_file():
        raise NotJoined("ffmpeg made no file")
