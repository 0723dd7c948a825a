import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.library.post import MediaItem, Post, Preference, Quality, cdn_expiry, is_own_file
from scrapper.library.response import RenderedPost

DAY = 24 * 60 * 60

items = st.builds(
    MediaItem,
    type=st.sampled_from(["video", "image"]),
    filename=st.sampled_from(["abcde.mp4", "abcde_1.jpg"]),
    cdn_url=st.text(),
    size=st.integers(1, 2**40),
    width=st.none() | st.integers(1, 10_000),
    height=st.none() | st.integers(1, 10_000),
)
posts = st.builds(
    Post,
    shortcode=st.just("abcde"),
    description=st.text(),
    owner=st.text(),
    taken_at=st.text(),
    original_url=st.text(),
    media=st.lists(items, min_size=1, max_size=4).map(tuple),
)


def image(cdn_url: str = "", filename: str = "abcde.jpg") -> MediaItem:
    return MediaItem("image", filename, cdn_url, 3, 640, 480)


def video(filename: str = "abcde.mp4") -> MediaItem:
    return MediaItem("video", filename, "https://cdn/v", 9, None, None)


def post(*media: MediaItem) -> Post:
    return Post("abcde", "text", "owner", "2026-01-15T12:00:00Z", "url", media)


@given(posts)
def test_a_post_survives_a_manifest_round_trip(original: Post) -> None:
    assert Post.from_manifest(json.loads(json.dumps(original.to_manifest()))) == original


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"media": []},
        {"media": None},
        {"media": [{"type": "image"}]},
    ],
)
def test_an_invalid_manifest_is_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"manifest|media"):
        Post.from_manifest({**post(image()).to_manifest(), **change})


@pytest.mark.parametrize(
    "filename", ["../abcde.jpg", "/etc/passwd", "abcde/b.jpg", "..", "other.jpg"]
)
def test_a_manifest_cannot_name_a_file_outside_its_folder(filename: str) -> None:
    with pytest.raises(ValueError, match="media of another post"):
        Post.from_manifest(post(image(filename=filename)).to_manifest())


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_other_json_is_not_a_manifest(data: object) -> None:
    with pytest.raises(ValueError, match="manifest"):
        Post.from_manifest(data)


@pytest.mark.parametrize(
    ("url", "expiry"),
    [
        ("https://cdn/x.mp4?stp=a&oe=6973B1C0&oh=x", 0x6973B1C0),
        ("https://cdn/x.mp4", None),
        ("https://cdn/x.mp4?oe=", None),
        ("https://cdn/x.mp4?oe=nonsense", None),
    ],
)
def test_the_expiry_of_a_signed_url_is_in_its_query(url: str, expiry: int | None) -> None:
    assert cdn_expiry(url) == expiry


def test_a_post_is_fresh_until_its_first_url_expires() -> None:
    media = image("https://cdn/a?oe=6973B1C0"), image("https://cdn/b?oe=6973B1BF")
    assert post(*media).fresh_until(0) == 0x6973B1BF


def test_a_post_with_unsigned_urls_is_fresh_for_a_day() -> None:
    assert post(image("https://cdn/a")).fresh_until(1000) == 1000 + DAY


@pytest.mark.parametrize(
    ("setbacks", "hours"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 24), (6, 24), (9**9, 24)]
)
def test_an_incomplete_post_stays_fresh_longer_each_time(setbacks: int, hours: int) -> None:
    late = image(f"https://cdn/a?oe={2**40:x}")
    incomplete = replace(post(late), missing=(2,), setbacks=setbacks)
    assert incomplete.fresh_until(1000) == 1000 + hours * 3600


def numbered(*numbers: int, size: int) -> tuple[MediaItem, ...]:
    return tuple(
        replace(image(f"https://cdn/{size}", f"abcde_{number}.jpg"), size=size)
        for number in numbers
    )


def test_missing_files_are_taken_from_an_earlier_download() -> None:
    old = replace(post(*numbered(1, 2, 3, size=1)), missing=(4,))
    new = replace(post(*numbered(1, 3, size=2)), missing=(2, 4))
    filled = new.filled_from(old)
    assert [(item.filename, item.size) for item in filled.media] == [
        ("abcde_1.jpg", 2),
        ("abcde_2.jpg", 1),
        ("abcde_3.jpg", 2),
    ]
    assert (filled.missing, filled.outdated, filled.setbacks) == ((4,), (2,), 1)
    assert Post.from_manifest(json.loads(json.dumps(filled.to_manifest()))) == filled
    complete = post(*numbered(1, 2, 3, 4, size=3)).filled_from(filled)
    assert (complete.missing, complete.outdated, complete.setbacks) == ((), (), 0)


def test_missing_items_keep_their_numbers() -> None:
    sound = image(filename="abcde_3.m4a")
    incomplete = replace(post(*numbered(1, 3, size=1)), missing=(2, 4), added=(sound,))
    found = [incomplete.item(number) for number in range(1, 7)]
    assert found == [incomplete.media[0], None, incomplete.media[1], None, sound, None]
    assert incomplete.item(sys.maxsize) is None


def test_no_file_is_taken_from_a_carousel_of_another_length() -> None:
    old = post(*numbered(1, 2, 3, size=1))
    new = replace(post(*numbered(1, size=2)), missing=(2,))
    assert new.filled_from(old) == new


def test_the_old_cover_is_kept_only_with_a_video() -> None:
    old = replace(post(video()), thumbnail=image())
    assert post(video()).filled_from(old).thumbnail == image()
    assert post(image()).filled_from(old).thumbnail is None


def test_a_manifest_of_an_earlier_release_can_be_read() -> None:
    data = replace(post(image()), missing=(2,)).to_manifest()
    for name in ("outdated", "setbacks", "named_item"):
        del data[name]
    assert Post.from_manifest(data).setbacks == 0


@pytest.mark.parametrize(
    ("taken_at", "moment"),
    [
        ("2026-01-15T12:00:00Z", 1_768_478_400),
        ("1970-01-01T00:00:00Z", 0),
        (None, None),
        ("", None),
        ("soon", None),
    ],
)
def test_the_time_of_a_post_is_parsed_as_unix_time(
    taken_at: str | None, moment: float | None
) -> None:
    assert replace(post(image()), taken_at=taken_at).taken_time == moment


def rendered(post: Post, original_url: str = "", *, cached: bool = False) -> dict[str, Any]:
    text = RenderedPost.of(post, Path("/data/instaloader")).to_json(
        original_url=original_url, kept=False, cached=cached
    )
    response: dict[str, Any] = json.loads(text)
    return response


def test_the_response_has_exactly_the_documented_keys() -> None:
    response = rendered(
        post(image("https://cdn/i", "abcde_1.jpg"), video("abcde_2.mp4")),
        "https://www.instagram.com/p/abcde/",
        cached=True,
    )
    assert response == {
        "shortcode": "abcde",
        "video": "/data/instaloader/abcde/abcde_2.mp4",
        "description": "text",
        "cdn_url": "https://cdn/v",
        "object_url": None,
        "original_url": "https://www.instagram.com/p/abcde/",
        "media": [
            {
                "type": "image",
                "path": "/data/instaloader/abcde/abcde_1.jpg",
                "url": "/media/abcde/abcde_1.jpg",
                "cdn_url": "https://cdn/i",
                "object_url": None,
                "size": 3,
                "width": 640,
                "height": 480,
                "alt_text": None,
                "duration": None,
                "has_audio": None,
                "codec": None,
                "bit_rate": None,
            },
            {
                "type": "video",
                "path": "/data/instaloader/abcde/abcde_2.mp4",
                "url": "/media/abcde/abcde_2.mp4",
                "cdn_url": "https://cdn/v",
                "object_url": None,
                "size": 9,
                "width": None,
                "height": None,
                "alt_text": None,
                "duration": None,
                "has_audio": None,
                "codec": None,
                "bit_rate": None,
            },
        ],
        "thumbnail": None,
        "thumbnail_url": "/posts/abcde/thumbnail?v=0-3",
        "owner": "owner",
        "taken_at": "2026-01-15T12:00:00Z",
        "missing": [],
        "details": {
            "owner_name": None,
            "owner_id": None,
            "coauthors": [],
            "likes": None,
            "comments": None,
            "views": None,
            "location": None,
            "tagged": [],
            "music": None,
            "product_type": None,
        },
        "stored_at": "1970-01-01T00:00:00Z",
        "expires_at": None,
        "kept": False,
        "cached": True,
        "stale": False,
    }


def test_a_post_without_a_video_has_no_video_path() -> None:
    response = rendered(post(image("https://cdn/i")))
    assert (response["video"], response["cdn_url"]) == (None, "https://cdn/i")


@given(posts, st.text(), st.booleans())
def test_any_post_and_url_render_as_valid_json(any_post: Post, url: str, cached: bool) -> None:
    response = rendered(any_post, url, cached=cached)
    assert (response["original_url"], response["cached"]) == (url, cached)
    assert response["description"] == any_post.description


@pytest.mark.parametrize(
    ("name", "is_own"),
    [
        ("abcde.mp4", True),
        ("abcde_2.jpg", True),
        ("abcde", True),
        ("other.mp4", False),
        ("", False),
        (".", False),
        ("..", False),
        ("../abcde.mp4", False),
        ("abcde/../../x", False),
        ("abcde/", False),
        ("/abcde.mp4", False),
        ("post.json", False),
    ],
)
def test_a_filename_begins_with_the_shortcode(name: str, is_own: bool) -> None:
    assert is_own_file(name, "abcde") is is_own


def stored(quality: Quality, codec: str | None = "h264", *, size: int = 9, **more: Any) -> Post:
    item = replace(video(), codec=codec, size=size)
    return replace(post(item), quality=quality, **more)


@pytest.mark.parametrize("max_bytes", ["8", 0, -1, 1.5, [], None])
def test_an_invalid_stored_size_is_ignored(max_bytes: Any) -> None:
    assert Preference.stored("best", max_bytes) == Preference("best")


def test_old_files_over_the_size_limit_are_left_out() -> None:
    media = tuple(image(filename=f"abcde_{number}.jpg") for number in (1, 2))
    carousel = replace(post(*media), outdated=(2,))
    assert carousel.within(3) == carousel.within(None) == carousel
    assert carousel.within(2) == replace(carousel, media=media[:1], missing=(2,), outdated=())
    single = replace(post(media[0]), outdated=(1,))
    assert single.within(2) == single


@pytest.mark.parametrize(
    ("known", "preference", "satisfies"),
    [
        (stored("compatible"), Preference(), True),
        (stored("compatible"), Preference("best"), False),
        (stored("best"), Preference("best"), True),
        (stored("best"), Preference(), True),
        (stored("best", "vp9"), Preference("best"), True),
        (stored("best", "vp9"), Preference(), False),
        (stored("best", None), Preference(), True),
        (stored("compatible"), Preference(max_bytes=9), True),
        (stored("compatible"), Preference(max_bytes=8), False),
        (stored("compatible", max_bytes=9), Preference(max_bytes=9), True),
        (stored("compatible", max_bytes=9), Preference(max_bytes=10), False),
        (stored("compatible", max_bytes=9), Preference(), False),
        (stored("compatible", outdated=(1,)), Preference("best", 8), True),
    ],
)
def test_a_post_satisfies_equal_or_lower_preferences(
    known: Post, preference: Preference, satisfies: bool
) -> None:
    assert known.satisfies(preference) is satisfies


def test_a_manifest_records_the_requested_quality_and_size() -> None:
    known = stored("best", "vp9", max_bytes=9)
    assert Post.from_manifest(json.loads(json.dumps(known.to_manifest()))) == known
    older = {
        key: value
        for key, value in known.to_manifest().items()
        if key not in ("quality", "max_bytes")
    }
    read = Post.from_manifest(older)
    assert (read.quality, read.max_bytes) == ("compatible", None)
