"""Which file is tried first, by quality and size."""

import sys

import pytest

from scrapper.instagram.files.choice import MAX_CANDIDATES, choose
from scrapper.instagram.files.dash import Representation
from scrapper.instagram.media import Candidate, Item
from scrapper.library.post import Quality, Wish

PROGRESSIVE = Candidate("whole", 720, 1280)
BEST, COMPATIBLE = Wish("best"), Wish()


def video(
    url: str, height: int | None, codec: str = "vp9", rate: int = 1, size: int | None = None
) -> Representation:
    return Representation("video", url, codec, None, height, rate, size)


def sound(
    url: str = "s", codec: str = "mp4a.40.2", rate: int = 1, size: int | None = None
) -> Representation:
    return Representation("audio", url, codec, None, None, rate, size)


def item(
    *streams: Representation,
    whole: tuple[Candidate, ...] = (PROGRESSIVE,),
    has_audio: bool | None = None,
) -> Item:
    return Item("video", whole, streams=streams, has_audio=has_audio)


def tried(of: Item, wish: Wish, max_bytes: int = sys.maxsize) -> list[str]:
    return [
        f"{one.url}+{one.sounds[0]}" if one.sounds else one.url
        for one in choose(of, wish, max_bytes).tried
    ]


def test_best_is_the_highest_and_then_h264() -> None:
    streams = (video("540", 960), video("v", 1920, rate=9), video("h", 1920, "h264"), sound())
    assert tried(item(*streams), BEST) == ["h+s", "v+s", "whole", "540+s"]


def test_an_unknown_height_follows_from_the_width() -> None:
    sized = Representation("video", "540", "vp9", 540, 960, 1, None)
    widths = [
        Representation("video", f"w{width}", "vp9", width, None, 1, None) for width in (720, 1080)
    ]
    assert tried(item(sized, *widths, sound()), BEST) == ["w1080+s", "w720+s", "whole", "540+s"]


def test_best_is_the_whole_one_where_that_is_larger() -> None:
    assert tried(item(video("540", 960), sound()), BEST) == ["whole", "540+s"]


def test_at_the_same_height_the_manifest_comes_first() -> None:
    assert tried(item(video("v", 1280), sound()), BEST) == ["v+s", "whole"]


def test_a_whole_one_without_a_size_comes_last() -> None:
    unsized = (Candidate("whole", None, None),)
    assert tried(item(video("v", 960), sound(), whole=unsized), BEST) == ["v+s", "whole"]


def test_the_whole_file_is_tried_among_many_parts() -> None:
    streams = [video(str(height), height) for height in range(2000, 2100)]
    assert "whole" in tried(item(*streams, sound()), BEST)
    without = choose(item(*streams, sound(), whole=()), BEST, sys.maxsize)
    assert len(without.tried) == MAX_CANDIDATES


def test_a_repeated_video_counts_once() -> None:
    streams = (*[video("v", 1920)] * 4, video("540", 960), sound())
    assert tried(item(*streams), BEST) == ["v+s", "whole", "540+s"]


def test_compatible_is_the_whole_one() -> None:
    assert tried(item(video("v", 1920), sound()), COMPATIBLE) == ["whole"]


def test_compatible_in_parts_is_h264() -> None:
    streams = (video("v", 1920), video("h", 960, "h264"), sound())
    assert tried(item(*streams, whole=()), COMPATIBLE) == ["h+s", "v+s"]


def test_the_best_sound_is_one_that_players_know() -> None:
    sounds = (sound("x", "mp4a.40.42", 99), sound("low", rate=48), sound("high", rate=96))
    assert tried(item(video("v", 1920), *sounds), BEST)[0] == "v+high"


@pytest.mark.parametrize(
    ("has_audio", "expected"), [(False, ["v", "whole"]), (None, ["whole", "v"])]
)
def test_no_sound_is_lost_to_the_quality(has_audio: bool | None, expected: list[str]) -> None:
    assert tried(item(video("v", 1920), has_audio=has_audio), BEST) == expected


@pytest.mark.parametrize("quality", ["best", "compatible"])
def test_what_is_known_to_be_too_large_is_passed_over(quality: Quality) -> None:
    streams = (video("large", 1920, size=900), video("small", 960, size=90), sound(size=10))
    choice = choose(item(*streams), Wish(quality), 100)
    assert choice.passed_over
    # The last one says how small the smallest is.
    urls = [one.url for one in choice.every]
    assert urls[-1] == "large"
    assert "small" in urls


def test_a_smaller_sound_makes_a_video_fit() -> None:
    sounds = (sound("high", rate=9, size=50), sound("low", size=10))
    assert tried(item(video("v", 1920, size=90), *sounds), BEST, 100)[0] == "v+low"


def test_other_sounds_are_in_reserve() -> None:
    sounds = (sound("low", rate=48), sound("high", rate=96), sound("x", "mp4a.40.42", 99))
    [best, _] = choose(item(video("v", 1920), *sounds), BEST, sys.maxsize).tried
    assert best.sounds == ("high", "low", "x")


def test_where_nothing_fits_the_smallest_is_tried() -> None:
    streams = (video("large", 1920, size=900), video("less", 960, size=800), sound(size=10))
    assert tried(item(*streams, whole=()), BEST, 100) == ["less+s"]


def test_pictures_have_their_own_order() -> None:
    candidates = tuple(Candidate(name, None, None) for name in "abcdefg")
    choice = choose(Item("image", candidates), BEST, 100)
    assert list(choice.tried) == list(candidates[:MAX_CANDIDATES])
    assert list(choice.every) == list(candidates)
