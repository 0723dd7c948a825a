"""Chooses which of an item's files to try, and in which order, by quality and size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scrapper.instagram.files.dash import Representation
from scrapper.instagram.media import Candidate, Item
from scrapper.library.post import Preference

__all__ = ["MAX_CANDIDATES", "Choice", "choose"]

MAX_CANDIDATES = 5
"""The maximum number of candidates tried per file, not counting those that are too large."""

# Fewer than MAX_CANDIDATES, to leave attempts for whole files.
_MAX_PAIRS = 3
_MAX_SOUNDS = 3
_MAX_FALLBACKS = 2
_H264 = "h264"
# Extended HE-AAC, which few players support.
_RARELY_PLAYABLE = "mp4a.40.42"


class Choice(NamedTuple):
    """The candidates for one file, in the order in which to try them.

    The ``candidates`` are tried first. If one turns out to be too large, the one after it in
    ``all_candidates`` is tried next. ``passed_over`` is true if better candidates were skipped
    because of their size. The ``fallbacks`` are tried when everything else has failed.
    """

    candidates: Sequence[Candidate]
    all_candidates: Sequence[Candidate]
    passed_over: bool = False
    fallbacks: Sequence[Candidate] = ()


@dataclass(frozen=True, slots=True)
class _Pair:
    """A video from a manifest, together with the manifest's audio if there is any.

    ``size`` is in bytes, or None if the size of either part is unknown. ``others`` are the audio
    files to try if ``sound`` cannot be downloaded.
    """

    video: Representation
    sound: Representation | None
    others: Sequence[Representation] = ()

    @property
    def size(self) -> int | None:
        sizes = [part.size for part in (self.video, self.sound) if part is not None]
        return sum(size for size in sizes if size) if all(sizes) else None

    @property
    def candidate(self) -> Candidate:
        video, sounds = self.video, (self.sound, *self.others) if self.sound else ()
        urls = tuple(sound.url for sound in sounds[:_MAX_SOUNDS])
        return Candidate(video.url, video.width, video.height, in_parts=True, sounds=urls)


def choose(item: Item, preference: Preference, max_bytes: int) -> Choice:
    """Choose which files to try for *item*, leaving out those known to exceed *max_bytes*.

    For ``best`` quality, the tallest video comes first, whether it is whole or in parts. Among
    videos of the same height, those from the manifest come first, and H.264 comes before other
    codecs. For ``compatible`` quality, whole videos come first, because they are always H.264. A
    video in parts is then used only if there is no whole video, or if every whole video is too
    large or cannot be downloaded.
    """
    pairs = _pairs(item, max_bytes)
    fitting = [pair for pair in pairs if not _exceeds(pair, max_bytes)]
    too_large = [pair for pair in pairs if _exceeds(pair, max_bytes)]
    # If nothing fits, this pair is tried to learn the size of the smallest file.
    smallest = sorted(too_large, key=lambda pair: pair.size or 0)[:1]
    passed_over = bool(too_large)
    if preference.quality == "best":
        in_parts = _candidates(fitting)
        all_candidates = _merged(in_parts, item)
        dropped = in_parts[_MAX_PAIRS:] if item.candidates else ()
        candidates = [candidate for candidate in all_candidates if candidate not in dropped]
    else:
        fitting.sort(key=lambda pair: pair.video.codec != _H264)
        in_parts = _candidates(fitting)
        all_candidates = [*item.candidates, *in_parts]
        candidates = list(item.candidates) or in_parts
    last = _candidates(smallest)
    fallbacks = [part for part in in_parts if part not in candidates][:_MAX_FALLBACKS]
    return Choice(
        (candidates or last)[:MAX_CANDIDATES], [*all_candidates, *last], passed_over, fallbacks
    )


def _pairs(item: Item, max_bytes: int) -> list[_Pair]:
    """Pair each of the manifest's videos with the best audio that fits, tallest video first."""
    videos = [stream for stream in item.streams if stream.type == "video"]
    sounds = [stream for stream in item.streams if stream.type == "audio"]
    height = _heights(item)
    videos.sort(key=lambda video: (-height(video), video.codec != _H264, -(video.bit_rate or 0)))
    sounds.sort(key=lambda sound: (sound.codec == _RARELY_PLAYABLE, -(sound.bit_rate or 0)))
    pairs = []
    for video in videos:
        choices = [_Pair(video, sound, sounds[at + 1 :]) for at, sound in enumerate(sounds)]
        choices = choices or [_Pair(video, None)]
        fits = (pair for pair in choices if not _exceeds(pair, max_bytes))
        pairs.append(next(fits, choices[-1]))
    return pairs


def _candidates(pairs: Sequence[_Pair]) -> list[Candidate]:
    """Return *pairs* as candidates, without the duplicates that a manifest may contain."""
    return list(dict.fromkeys(pair.candidate for pair in pairs))


def _exceeds(pair: _Pair, max_bytes: int) -> bool:
    return pair.size is not None and pair.size > max_bytes


def _sound_is_known(item: Item) -> bool:
    """Return whether the video is silent, or the manifest includes its audio."""
    return item.has_audio is False or any(stream.type == "audio" for stream in item.streams)


def _merged(in_parts: Sequence[Candidate], item: Item) -> list[Candidate]:
    if not _sound_is_known(item):
        return [*item.candidates, *in_parts]
    height = _heights(item)
    # The sort is stable, so whole files keep their order. Files without dimensions come last.
    return sorted([*in_parts, *item.candidates], key=lambda candidate: -height(candidate))


def _heights(item: Item) -> Callable[[Candidate | Representation], float]:
    """Return a function that returns a file's height in pixels.

    If a file's height is unknown, the function derives it from the file's width and the aspect
    ratio of another file.
    """
    known: Sequence[Candidate | Representation] = (*item.streams, *item.candidates)
    sizes = ((file.width, file.height) for file in known)
    ratio = next((height / width for width, height in sizes if width and height), 1.0)
    return lambda file: file.height or (file.width or 0) * ratio
