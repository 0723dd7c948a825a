"""Which files are tried, and in which order, depending on quality and size."""

import sys
from dataclasses import replace

import pytest

from scrapper.instagram.files.choice import choose
from scrapper.instagram.files.dash import Representation
from scrapper.instagram.media import Candidate, Item
from scrapper.library.post import Preference, Quality

PROGRESSIVE = Candidate("whole", 720, 1280)
BEST, COMPATIBLE = Preference("best"), Preference()


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


def tried(of: Item, preference: Preference, max_bytes: int = sys.maxsize) -> list[str]:
    return [
        f"{one.url}+{one.sounds[0]}" if one.sounds else one.url
        for one in choose(of, preference, max_bytes).candidates
    ]


def test_best_prefers_height_and_then_h264() -> None:
    streams = (video("540", 960), video("v", 1920, rate=9), video("h", 1920, "h264"), sound())
    assert tried(item(*streams), BEST) == ["h+s", "v+s", "whole", "540+s"]


@pytest.mark.parametrize(
    ("sizes", "whole", "expected"),
    [
        # The aspect ratio is that of another stream, that of the whole file, or 1.
        ([(700, None), (1080, None), (540, 960)], (None, None), "1080 700 540 whole"),
        ([(700, None), (1080, None)], (720, 1280), "1080 whole 700"),
        ([(700, None), (None, 1000)], (None, None), "None 700 whole"),
    ],
)
def test_unknown_height_is_estimated_from_the_width(
    sizes: list[tuple[int | None, int | None]], whole: tuple[int | None, int | None], expected: str
) -> None:
    streams = [
        Representation("video", str(width), "vp9", width, height, 1, None)
        for width, height in sizes
    ]
    found = tried(item(*streams, sound(), whole=(Candidate("whole", *whole),)), BEST)
    assert " ".join(found).replace("+s", "") == expected


def test_best_chooses_the_whole_file_if_it_is_larger() -> None:
    assert tried(item(video("540", 960), sound()), BEST) == ["whole", "540+s"]


def test_at_the_same_height_the_manifest_comes_first() -> None:
    assert tried(item(video("v", 1280), sound()), BEST) == ["v+s", "whole"]


def test_a_whole_file_without_a_size_comes_last() -> None:
    unsized = (Candidate("whole", None, None),)
    assert tried(item(video("v", 960), sound(), whole=unsized), BEST) == ["v+s", "whole"]


MANY = [video(str(height), height) for height in range(2000, 2010)]


@pytest.mark.parametrize(
    ("whole", "preference", "tried", "fallbacks"),
    [
        ((PROGRESSIVE,), BEST, ["2009", "2008", "2007", "whole"], ["2006", "2005"]),
        ((), BEST, ["2009", "2008", "2007", "2006", "2005"], []),
        ((PROGRESSIVE,), COMPATIBLE, ["whole"], ["2009", "2008"]),
        ((), COMPATIBLE, ["2009", "2008", "2007", "2006", "2005"], []),
    ],
)
def test_the_whole_file_is_tried_among_many_parts(
    whole: tuple[Candidate, ...], preference: Preference, tried: list[str], fallbacks: list[str]
) -> None:
    choice = choose(item(*MANY, sound(), whole=whole), preference, sys.maxsize)
    assert [one.url for one in choice.candidates] == tried
    assert [one.url for one in choice.fallbacks] == fallbacks
    assert not choice.passed_over
    assert len(choice.all_candidates) == len(MANY) + len(whole)
    assert all(one.in_parts == (one not in whole) for one in choice.all_candidates)


def test_at_the_same_height_the_higher_bit_rate_comes_first() -> None:
    streams = [video("low", 960, rate=1), video("none", 960), video("high", 960, rate=9)]
    streams[1] = replace(streams[1], bit_rate=None)
    assert tried(item(*streams, sound(), whole=()), BEST) == ["high+s", "low+s", "none+s"]


def test_a_repeated_video_counts_once() -> None:
    streams = (*[video("v", 1920)] * 4, video("540", 960), sound())
    assert tried(item(*streams), BEST) == ["v+s", "whole", "540+s"]


def test_compatible_chooses_the_whole_file() -> None:
    assert tried(item(video("v", 1920), sound()), COMPATIBLE) == ["whole"]


def test_compatible_prefers_h264_among_videos_in_parts() -> None:
    streams = (video("v", 1920), video("h", 960, "h264"), sound())
    assert tried(item(*streams, whole=()), COMPATIBLE) == ["h+s", "v+s"]


def test_sound_that_most_players_support_is_preferred() -> None:
    sounds = (sound("x", "mp4a.40.42", 99), sound("low", rate=48), sound("high", rate=96))
    assert tried(item(video("v", 1920), *sounds), BEST)[0] == "v+high"


@pytest.mark.parametrize(
    ("has_audio", "expected"), [(False, ["v", "whole"]), (None, ["whole", "v"])]
)
def test_better_quality_never_loses_the_sound(has_audio: bool | None, expected: list[str]) -> None:
    assert tried(item(video("v", 1920), has_audio=has_audio), BEST) == expected


@pytest.mark.parametrize("quality", ["best", "compatible"])
def test_files_known_to_be_too_large_are_passed_over(quality: Quality) -> None:
    streams = (video("large", 1920, size=900), video("small", 960, size=90), sound(size=10))
    choice = choose(item(*streams), Preference(quality), 100)
    assert choice.passed_over
    # The last one is tried only to learn the size of the smallest file.
    urls = [one.url for one in choice.all_candidates]
    assert urls[-1] == "large"
    assert "small" in urls


def test_a_smaller_sound_makes_a_video_fit() -> None:
    sounds = (sound("high", rate=9, size=50), sound("low", size=10))
    assert tried(item(video("v", 1920, size=90), *sounds), BEST, 100)[0] == "v+low"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["low", "high", "rare"], ("high", "low", "rare")),
        (["rare", "none", "low", "high"], ("high", "low", "none")),
    ],
)
def test_other_sounds_are_fallbacks(names: list[str], expected: tuple[str, ...]) -> None:
    known = {
        "low": sound("low", rate=48),
        "high": sound("high", rate=96),
        "none": replace(sound("none"), bit_rate=None),
        "rare": sound("rare", "mp4a.40.42", 99),
    }
    sounds = (known[name] for name in names)
    [best, _] = choose(item(video("v", 1920), *sounds), BEST, sys.maxsize).candidates
    assert best.sounds == expected


@pytest.mark.parametrize(("video_size", "sound_size"), [(900, None), (None, 900)])
def test_files_of_unknown_size_are_tried(video_size: int | None, sound_size: int | None) -> None:
    streams = (video("v", 1920, size=video_size), sound(size=sound_size))
    assert tried(item(*streams), BEST, 100) == ["v+s", "whole"]


def test_the_smallest_is_tried_if_nothing_fits() -> None:
    sounds = (sound("high", rate=9, size=50), sound(size=10))
    streams = (video("large", 1920, size=900), video("less", 960, size=800), *sounds)
    assert tried(item(*streams, whole=()), BEST, 100) == ["less+s"]


def test_pictures_keep_their_order() -> None:
    candidates = tuple(Candidate(name, None, None) for name in "abcdefg")
    choice = choose(Item("image", candidates), BEST, 100)
    assert list(choice.candidates) == list(candidates[:5])
    assert list(choice.all_candidates) == list(candidates)
