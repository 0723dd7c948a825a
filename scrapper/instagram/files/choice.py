"""Which of an item's files are tried, in which order: by the quality asked for, and the size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scrapper.instagram.files.dash import Representation
from scrapper.instagram.media import Candidate, Item
from scrapper.library.post import Wish

__all__ = ["MAX_CANDIDATES", "Choice", "choose"]

MAX_CANDIDATES = 5
"""How many candidates of a file are tried, besides those that are too large."""

# Few, so that whole files are tried, too.
_MAX_PAIRS = 3
_MAX_SOUNDS = 3
_MAX_SPARE = 2
_H264 = "h264"
# Extended HE-AAC, which few programs play.
_RARE_SOUND = "mp4a.40.42"


class Choice(NamedTuple):
    """The candidates to be ``tried``, best first.

    ``every`` has all candidates, for the next one to try after one that is too large.
    ``passed_over`` says whether better ones were left out because of their size. ``spare`` are
    those to try when nothing else is left.
    """

    tried: Sequence[Candidate]
    every: Sequence[Candidate]
    passed_over: bool = False
    spare: Sequence[Candidate] = ()


@dataclass(frozen=True, slots=True)
class _Pair:
    """A manifest's video with one of its sounds; ``size`` is in bytes, None if one is unknown.

    ``others`` are the sounds to try next, if ``sound`` cannot be downloaded.
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


def choose(item: Item, wish: Wish, max_bytes: int) -> Choice:
    """What to try for *item*: files of *max_bytes* at most, as far as their sizes are known.

    ``best`` is the largest video, whole or in parts; at the same height the manifest's comes first,
    and H.264 before other codecs. ``compatible`` is a whole video, which is H.264; one in parts is
    taken only if there is no whole one, or all are too large or cannot be downloaded.
    """
    pairs = _pairs(item, max_bytes)
    fitting = [pair for pair in pairs if not _exceeds(pair, max_bytes)]
    too_large = [pair for pair in pairs if _exceeds(pair, max_bytes)]
    # If all others are too large, too, this pair shows how large the smallest is.
    smallest = sorted(too_large, key=lambda pair: pair.size or 0)[:1]
    passed_over = bool(too_large)
    if wish.quality == "best":
        in_parts = _candidates(fitting)
        every = _merged(in_parts, item)
        dropped = in_parts[_MAX_PAIRS:] if item.candidates else ()
        tried = [one for one in every if one not in dropped]
    else:
        fitting.sort(key=lambda pair: pair.video.codec != _H264)
        in_parts = _candidates(fitting)
        every = [*item.candidates, *in_parts]
        tried = list(item.candidates) or in_parts
    last = _candidates(smallest)
    spare = [one for one in in_parts if one not in tried][:_MAX_SPARE]
    return Choice((tried or last)[:MAX_CANDIDATES], [*every, *last], passed_over, spare)


def _pairs(item: Item, max_bytes: int) -> list[_Pair]:
    """The manifest's videos, the largest first, each with the best sound that fits with it."""
    videos = [stream for stream in item.streams if stream.type == "video"]
    sounds = [stream for stream in item.streams if stream.type == "audio"]
    height = _heights(item)
    videos.sort(key=lambda one: (-height(one), one.codec != _H264, -(one.bit_rate or 0)))
    sounds.sort(key=lambda one: (one.codec == _RARE_SOUND, -(one.bit_rate or 0)))
    pairs = []
    for video in videos:
        choices = [_Pair(video, sound, sounds[at + 1 :]) for at, sound in enumerate(sounds)]
        choices = choices or [_Pair(video, None)]
        fits = (pair for pair in choices if not _exceeds(pair, max_bytes))
        pairs.append(next(fits, choices[-1]))
    return pairs


def _candidates(pairs: Sequence[_Pair]) -> list[Candidate]:
    """The candidates of *pairs*, each once: a manifest may repeat itself."""
    return list(dict.fromkeys(pair.candidate for pair in pairs))


def _exceeds(pair: _Pair, max_bytes: int) -> bool:
    return pair.size is not None and pair.size > max_bytes


def _sound_is_known(item: Item) -> bool:
    """Whether the manifest has the video's sound, if the video has any."""
    return item.has_audio is False or any(stream.type == "audio" for stream in item.streams)


def _merged(in_parts: Sequence[Candidate], item: Item) -> list[Candidate]:
    if not _sound_is_known(item):
        return [*item.candidates, *in_parts]
    height = _heights(item)
    # Whole files keep their order; those without a size come last.
    return sorted([*in_parts, *item.candidates], key=lambda one: -height(one))


def _heights(item: Item) -> Callable[[Candidate | Representation], float]:
    """The height of each file in pixels; if unknown, by its width and the ratio of others."""
    known: Sequence[Candidate | Representation] = (*item.streams, *item.candidates)
    sizes = ((one.width, one.height) for one in known)
    ratio = next((height / width for width, height in sizes if width and height), 1.0)
    return lambda one: one.height or (one.width or 0) * ratio
