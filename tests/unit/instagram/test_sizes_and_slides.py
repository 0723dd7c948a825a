"""Sizes, placeholders and slides in Instagram's media objects."""

from dataclasses import replace
from typing import Any

import pytest

from scrapper.instagram.media import Candidate, Description, Item, Kind, describe, find_in_page
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.verdict import Reason, Refused
from scrapper.library.post import Music

CODE = Shortcode("DPost000001")
NULL = "https://static.cdninstagram.com/rsrc.php/null.jpg"


def picture(*urls: str, width: int = 640, **more: Any) -> dict[str, Any]:
    candidates = [{"url": url, "width": width, "height": width} for url in urls]
    return {"media_type": 1, "image_versions2": {"candidates": candidates}, **more}


def read(media: dict[str, Any]) -> Description:
    return describe({"code": CODE.code, **media}, CODE)


def test_http_urls_come_last_and_become_https() -> None:
    [item] = read(picture("http://cdn/a", "https://cdn/b", NULL)).items
    assert item is not None
    assert [(one.url, one.unreliable) for one in item.candidates] == [
        ("https://cdn/b", False),
        ("https://cdn/a", True),
    ]


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        (picture(NULL), Reason.GATED),
        ({"media_type": 8, "carousel_media": [picture(NULL), picture()]}, Reason.GATED),
        ({"media_type": 2, "video_versions": [{"url": NULL}]}, Reason.GATED),
        (picture(), Reason.CHANGED),
        ({**picture("https://cdn/cover"), "media_type": 2, "video_versions": []}, Reason.CHANGED),
    ],
)
def test_placeholder_means_that_a_file_is_withheld(media: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(Refused) as refused:
        read(media)
    assert refused.value.reason is reason


@pytest.mark.parametrize(
    ("key", "music"),
    [("music_metadata", Music("Song", "Band")), ("clips_metadata", Music("Song", "Band"))],
)
def test_song_is_read_from_either_key(key: str, music: Music) -> None:
    asset = {"title": "Song", "display_artist": "Band"}
    other: dict[str, Any] = {"music_metadata": None, "clips_metadata": {"music_info": None}}
    media = picture("https://cdn/a", **{**other, key: {"music_info": {"music_asset_info": asset}}})
    assert read(media).details.music == music


@pytest.mark.parametrize(
    ("width", "full", "small"),
    [(640, 1440, True), (1296, 1440, False), (1295, 1440, True), (640, None, False)],
)
def test_picture_is_small_below_nine_tenths_of_its_width(
    width: int, full: int | None, small: bool
) -> None:
    media = picture("https://cdn/a", width=width, original_width=full)
    assert read(media).is_small is small


def test_shortcode_of_a_slide_selects_its_item() -> None:
    slides = [
        picture("https://cdn/1", code="DOther00001"),
        picture("https://cdn/2", code=CODE.code),
    ]
    parent = {"code": "DParent0001", "media_type": 8, "carousel_media": slides}
    found = find_in_page({"data": {"media": parent}}, CODE)
    assert found == parent
    assert describe(parent, CODE).named_item == 2
    for own in (CODE, Shortcode("DParent0001")):
        assert describe({**parent, "code": own.code}, own).named_item is None
    with pytest.raises(Refused):
        find_in_page({"data": {"media": parent}}, Shortcode("DAbsent0001"))


def item(kind: Kind, *widths: int | None, full_width: int | None = None) -> Item:
    candidates = (Candidate(f"https://cdn/{kind}-{width}", width, width) for width in widths)
    return Item(kind, tuple(candidates), full_width=full_width)


@pytest.mark.parametrize(
    ("one", "small"),
    [
        (item("image", 100, full_width=1000), True),
        (item("image", 1000, 100, full_width=1000), False),
        (item("video", 100, full_width=1000), False),
        (item("image", None, full_width=1000), False),
        (item("image", 100), False),
    ],
)
def test_only_pictures_of_known_width_can_be_small(one: Item, small: bool) -> None:
    assert one.is_small is small


@pytest.mark.parametrize(
    ("ours", "theirs", "widths"),
    [
        (item("image", 10, 5), item("image", 90, 80, 70), [90, 80, 10, 5]),
        (item("image", 10), item("image", 10, 5), [10]),
        (item("image", 10, 5), item("image", 8), [10, 5]),
        (item("image", 10), item("image", 90, 5), [90, 5, 10]),
        (item("image", None), item("image", 90), [None]),
        (item("image", 10), item("image", None), [10]),
        (item("image", 10), item("video", 90), [10]),
        (item("video", 10), item("video", 90), [10]),
    ],
)
def test_larger_pictures_come_first(ours: Item, theirs: Item, widths: list[int | None]) -> None:
    assert [one.width for one in ours.with_larger(theirs).candidates] == widths


PICTURE, SMALL, VIDEO = item("image", 100), item("image", 10, full_width=100), item("video", 100)


def description(*items: Item | None, source: str = "api") -> Description:
    whole = read(picture("https://cdn/a"))
    return replace(whole, is_carousel=True, items=items, sources=frozenset({source}))


@pytest.mark.parametrize(
    ("items", "summary"),
    [
        ((PICTURE,), "1 image"),
        ((PICTURE, VIDEO, PICTURE, None), "2 images, 1 video, 1 missing"),
        ((VIDEO, VIDEO), "2 videos"),
        ((None, None, VIDEO), "1 video, 2 missing"),
    ],
)
def test_summary_counts_the_files_of_each_kind(items: tuple[Item | None], summary: str) -> None:
    assert description(*items).summary == summary


@pytest.mark.parametrize(
    ("items", "small"),
    [((None, PICTURE), False), ((None, SMALL), True), ((PICTURE, SMALL, VIDEO), True), ((), False)],
)
def test_one_small_picture_makes_the_post_small(items: tuple[Item | None], small: bool) -> None:
    assert description(*items).is_small is small


def test_gaps_are_filled_from_another_description() -> None:
    filled = description(None, PICTURE).filled_from(description(VIDEO, VIDEO, SMALL, source="page"))
    assert filled.items == (VIDEO, PICTURE, SMALL)
    assert filled.sources == {"api", "page"}


def test_slides_are_never_replaced_by_a_single_item() -> None:
    single = replace(description(VIDEO, source="page"), is_carousel=False)
    for carousel in (description(None, PICTURE), description(PICTURE, VIDEO)):
        kept = replace(carousel, sources=frozenset({"api", "page"}))
        assert carousel.filled_from(single) == kept
        assert single.filled_from(carousel) == kept


def test_larger_pictures_never_add_items() -> None:
    large = item("image", 90)
    found = description(SMALL, None).with_larger(description(large, large, large, source="page"))
    assert found.items == (with_larger(SMALL, large), None)
    assert found.sources == {"api", "page"}
    assert description(SMALL, None).with_larger(description(None, large)).items == (SMALL, None)


def with_larger(own: Item, larger: Item) -> Item:
    return replace(own, candidates=larger.candidates + own.candidates)
