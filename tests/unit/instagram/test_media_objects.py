"""How Instagram's media objects, well-formed or not, become descriptions."""

import copy
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from scrapper.instagram.media import (
    Candidate,
    Description,
    Item,
    belongs_to,
    describe,
    find_in_page,
    ungated,
)
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.verdict import Reason, Refused
from scrapper.library.post import Details, Music
from tests.instagram import Scenario
from tests.instagram.posts import Posts, media_id

POSTS = Posts(None)
CODE = Shortcode("DExample001")
CDN = "https://cdn.example/"
VIDEO = {"media_type": 2, "video_versions": [{"url": CDN + "v.mp4"}]}
PICTURE = {"media_type": 1, "image_versions2": {"candidates": [{"url": CDN + "p.jpg"}]}}
CANDIDATE = Candidate(CDN + "p.jpg", None, None)
OTHER_TYPES: list[Any] = [None, "", "text", True, [], {}, [None], {"a": 1}]


def sized(name: str, width: Any = None, height: Any = None) -> dict[str, Any]:
    return {"url": CDN + name, "width": width, "height": height}


def picture(*versions: Any, **more: Any) -> dict[str, Any]:
    return {"media_type": 1, "image_versions2": {"candidates": list(versions)}, **more}


def carousel(*children: Any, **more: Any) -> dict[str, Any]:
    return {"media_type": 8, "carousel_media": list(children), **more}


def read(media: dict[str, Any]) -> Description:
    return describe(media, Shortcode("abcde"))


def item(media: dict[str, Any]) -> Item:
    [found] = read(media).items
    assert found is not None
    return found


def urls(media: dict[str, Any]) -> list[str]:
    return [candidate.url.removeprefix(CDN) for candidate in item(media).candidates]


def details(**values: Any) -> Details:
    return read({**PICTURE, **values}).details


def reason(media: dict[str, Any]) -> Reason:
    with pytest.raises(Refused) as refused:
        read(media)
    return refused.value.reason


# ---- types


@pytest.mark.parametrize("kind", [1, 2, *OTHER_TYPES])
def test_item_with_video_urls_is_always_a_video(kind: object) -> None:
    assert item({**PICTURE, **VIDEO, "media_type": kind}).type == "video"


@pytest.mark.parametrize(
    "sign",
    [
        {"media_type": 2},
        {"__typename": "XIGPolarisVideoMedia"},
        {"media_type": True, "__typename": "XDTGraphVideo"},
        {"has_audio": None},
        {"is_dash_eligible": 0},
        {"number_of_qualities": 1},
        {"video_duration": None},
        {"media_type": "1", "video_duration": 1.0},
    ],
)
def test_cover_never_replaces_a_video(sign: dict[str, Any]) -> None:
    cover = {"image_versions2": PICTURE["image_versions2"]}
    assert reason({**cover, **sign}) is Reason.CHANGED
    described = read(carousel({**cover, **sign}, PICTURE))
    assert described.items == (None, Item("image", (CANDIDATE,)))
    assert not described.complete


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_item_without_signs_of_a_video_is_a_picture(kind: object) -> None:
    for name in ("media_type", "__typename", "caption"):
        assert item({"image_versions2": PICTURE["image_versions2"], name: kind}).type == "image"


@pytest.mark.parametrize("sign", ["has_audio", "video_duration"])
def test_picture_type_overrides_video_keys(sign: str) -> None:
    assert item({**PICTURE, sign: 1}).type == "image"


@pytest.mark.parametrize("kind", [0, 3, 7, 9, 77, -1, 10**30])
def test_unknown_media_type_is_refused(kind: int) -> None:
    with capture_logs() as logs:
        assert reason({**VIDEO, "media_type": kind}) is Reason.CHANGED
    assert [line["media_type"] for line in logs] == [kind]


@pytest.mark.parametrize("kind", [1, 2, 8, *OTHER_TYPES])
def test_item_with_children_is_always_a_carousel(kind: object) -> None:
    described = read({**carousel(PICTURE), "media_type": kind})
    assert (described.is_carousel, len(described.items)) == (True, 1)


@pytest.mark.parametrize("children", [None, [], "text", {}])
def test_carousel_without_children_is_refused(children: object) -> None:
    assert reason({**PICTURE, "media_type": 8, "carousel_media": children}) is Reason.CHANGED


@pytest.mark.parametrize("kind", [None, "8"])
@pytest.mark.parametrize(
    ("count", "is_carousel"), [(None, False), (0, False), (1, False), (2, True)]
)
def test_cover_does_not_stand_for_a_carousel_without_type(
    kind: object, count: int | None, is_carousel: bool
) -> None:
    media = {**PICTURE, "media_type": kind, "carousel_media": None, "carousel_media_count": count}
    if is_carousel:
        assert reason(media) is Reason.CHANGED
    else:
        assert read(media).complete


@pytest.mark.parametrize(("count", "items"), [(1, 2), (2, 2), (3, 3), (20, 20), (21, 20)])
def test_missing_children_are_added_up_to_twenty(count: int, items: int) -> None:
    described = read(carousel(PICTURE, PICTURE, carousel_media_count=count))
    assert len(described.items) == items
    assert described.items[2:] == (None,) * (items - 2)
    assert described.complete == (items == 2)


@pytest.mark.parametrize("count", [*OTHER_TYPES, -1, math.nan, math.inf, 10**30])
def test_malformed_count_of_children_is_ignored(count: object) -> None:
    assert read(carousel(PICTURE, carousel_media_count=count)).complete


def test_single_post_has_no_missing_children() -> None:
    assert read({**PICTURE, "carousel_media_count": 3}).complete


def test_more_than_fifty_children_are_refused() -> None:
    assert len(read(carousel(*[PICTURE] * 50)).items) == 50
    with capture_logs() as logs:
        assert reason(carousel(*[PICTURE] * 51)) is Reason.CHANGED
    assert [line["items"] for line in logs] == [51]


@pytest.mark.parametrize("child", [*OTHER_TYPES, 7])
def test_malformed_child_counts_as_missing(child: object) -> None:
    assert read(carousel(child, PICTURE)).items[0] is None
    assert reason(carousel(child)) is Reason.CHANGED


# ---- candidates


def test_largest_candidate_comes_first_if_all_have_sizes() -> None:
    versions = [sized("s", 10, 10), sized("wide", 60, 10), sized("l", 30, 30), sized("m", 20, 20)]
    assert urls(picture(*versions)) == ["l", "wide", "m", "s"]
    video = {"media_type": 2, "video_versions": versions}
    assert urls(video) == ["l", "wide", "m", "s"]


@pytest.mark.parametrize("size", [(None, 10), (10, None), (0, 10), (10, 100_001), (True, 10)])
def test_original_order_is_kept_if_a_size_is_missing(size: tuple[Any, Any]) -> None:
    assert urls(picture(sized("s", 10, 10), sized("l", 30, 30), sized("x", *size))) == [
        *("s", "l", "x")
    ]


@pytest.mark.parametrize(
    ("value", "pixels"),
    [(1, 1), (100_000, 100_000), (7.9, 7), (0, None), (0.9, None), (100_001, None), (-1, None)]
    + [(value, None) for value in (*OTHER_TYPES, math.nan, math.inf, 10**400, "7")],
)
def test_pixels_must_be_between_one_and_100000(value: object, pixels: int | None) -> None:
    assert item(picture(sized("x"), original_width=value)).full_width == pixels
    for version in (sized("x", value, 5), sized("x", 5, value)):
        [candidate] = item(picture(version)).candidates
        sizes = [candidate.width, candidate.height]
        if pixels is None:
            assert sizes == [None, None]
        else:
            assert sorted(sizes, key=bool) == sizes
            assert set(sizes) == {pixels, 5}


def test_first_candidate_without_a_size_gets_the_original_size() -> None:
    original = {"original_width": 1080, "original_height": 1350}
    first, second = item(picture(sized("a"), sized("b"), **original)).candidates
    assert (first.width, first.height) == (1080, 1350)
    assert (second.width, second.height) == (None, None)
    for version in (sized("a", 5), sized("a", None, 5)):
        candidate, _ = item(picture(version, sized("b", 9, 9), **original)).candidates
        assert (candidate.width, candidate.height) == (1080, 1350)
    own, _ = item(picture(sized("a", 5, 6), sized("b"), **original)).candidates
    assert (own.width, own.height) == (5, 6)
    video = {"media_type": 2, "video_versions": [sized("v")], **PICTURE, **original}
    found = item({**video, "media_type": 2})
    sizes = [(it[0].width, it[0].height) for it in (found.candidates, found.cover)]
    # A video's size is read from the file itself.
    assert sizes == [(None, None), (1080, 1350)]


@pytest.mark.parametrize(
    ("query", "is_crop"),
    [
        ("?stp=c0.420.1080.1080a_dst-jpg_e15", True),
        ("?stp=c288.0.864.864a", True),
        ("?stp=dst-jpg_e15_c0.420.1080.1080a", True),
        ("?x=1&stp=dst-jpg_c1.2.3.4", True),
        ("?stp=dst-jpg_e35_s640x640_tt6", False),
        ("?stp=dst-jpg_cover", False),
        ("?stp=dst-jpgc0.1.2.3", False),
        ("?stp=dst-jpg&c=c0.1", False),
        ("?stpx=c0.1.2.3", False),
        ("?nostp=c0.1.2.3", False),
        ("/stp=c0.1.2.3", False),
        ("?stp=dst?c0.1.2.3_c0.1.2.3", False),
    ],
)
def test_crop_is_not_a_candidate(query: str, is_crop: bool) -> None:
    found = urls(picture(sized("crop" + query, 999, 999), sized("whole", 5, 5)))
    assert found == (["whole"] if is_crop else ["crop" + query, "whole"])


@pytest.mark.parametrize(
    "url",
    [
        *OTHER_TYPES,
        7,
        "//cdn.example/a",
        "file:///etc/passwd",
        " https://cdn.example/a",
        "https://cdn.example/a\n",
        "https://cdn.example/\x00",
        CDN + "x" * (4097 - len(CDN)),
    ],
)
def test_malformed_urls_are_not_candidates(url: object) -> None:
    assert reason(picture({"url": url})) is Reason.CHANGED
    assert urls(picture({"url": url}, sized("good"))) == ["good"]


def test_a_url_inside_a_url_stays_as_it_is() -> None:
    assert urls(picture(sized("a?from=http://x"))) == ["a?from=http://x"]


def test_url_of_maximum_length_is_accepted() -> None:
    longest = "x" * (4096 - len(CDN))
    assert urls(picture(sized(longest))) == [longest]


@pytest.mark.parametrize("version", [*OTHER_TYPES, 7])
def test_malformed_version_does_not_affect_others(version: object) -> None:
    assert urls(picture(version, sized("good"))) == ["good"]


@pytest.mark.parametrize("versions", OTHER_TYPES)
def test_malformed_list_of_versions_counts_as_empty(versions: object) -> None:
    assert item({**PICTURE, "video_versions": versions}).type == "image"
    assert reason({"media_type": 1, "image_versions2": versions}) is Reason.CHANGED
    assert reason({"media_type": 1, "image_versions2": {"candidates": versions}}) is Reason.CHANGED


def test_at_most_thirty_distinct_versions_are_read() -> None:
    versions = [sized(str(number)) for number in range(31)]
    assert urls(picture(*versions)) == [str(number) for number in range(30)]
    assert urls(picture(sized("a", 1, 1), sized("a", 9, 9), sized("b", 2, 2))) == ["b", "a"]


def test_picture_has_neither_cover_nor_sound() -> None:
    found = item({**PICTURE, "has_audio": True, "video_duration": 5, "accessibility_caption": "A"})
    assert found == Item("image", (CANDIDATE,), alt_text="A")


def test_video_has_a_cover() -> None:
    video = {**PICTURE, **VIDEO, "has_audio": False, "video_duration": 5}
    candidates = (Candidate(CDN + "v.mp4", None, None),)
    assert item({**video, "accessibility_caption": "A"}) == Item(
        "video", candidates, (CANDIDATE,), alt_text="A", duration=5.0, has_audio=False
    )


@pytest.mark.parametrize("value", [None, 1, 0, "true", [], {}])
def test_has_audio_must_be_a_boolean(value: object) -> None:
    assert item({**VIDEO, "has_audio": value}).has_audio is None
    assert item({**VIDEO, "has_audio": True}).has_audio is True


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(1, 1.0), (0.5, 0.5), (86_400, 86_400.0), (86_401, None), (0, None), (-1, None)]
    + [(value, None) for value in (*OTHER_TYPES, math.nan, math.inf, 10**400, "5")],
)
def test_duration_is_at_most_a_day(value: object, seconds: float | None) -> None:
    duration = item({**VIDEO, "video_duration": value}).duration
    assert repr(duration) == repr(seconds)


@pytest.mark.parametrize(
    ("versions", "small"),
    [
        pytest.param([("a", 640, 640), ("b", 320, 320), ("c", 240, 240)], "b", id="the largest"),
        pytest.param([("a", 640, 640), ("b", 321, 321)], None, id="none is small enough"),
        pytest.param(
            [("a?stp=p200x300", None, None), ("b?stp=p310x150", None, None)],
            "b?stp=p310x150",
            id="the longer side is a width",
        ),
        pytest.param(
            [("a?stp=p300x200", None, None), ("b?stp=p150x310", None, None)],
            "b?stp=p150x310",
            id="the longer side is a height",
        ),
        pytest.param(
            [("a", 300, 1000), ("b", 320, 640), ("c", 640, 500)], "b", id="a tall picture"
        ),
        pytest.param(
            [("a", 300, 330), ("b", 100, 100), ("c", 90, 90)],
            "b",
            id="a picture that fits entirely",
        ),
        pytest.param([("a", 320, None), ("b", None, 320), ("c", None, None)], None, id="no size"),
        pytest.param(
            [("a?stp=dst-jpg_s150x150", None, None), ("b?x=1&stp=p240x240_tt6", None, 9)],
            "b?x=1&stp=p240x240_tt6",
            id="the box that it was scaled to",
        ),
        pytest.param(
            [("a?stp=s40x640", 500, 500), ("b?stp=s90x90", 100, 100), ("c?stp=s99x20", None, None)],
            "b?stp=s90x90",
            id="its own size takes precedence over the box",
        ),
        pytest.param(
            [("a", 640, 640), ("b?stp=c0.1.2.3a_s150x150", 150, 150)],
            "b?stp=c0.1.2.3a_s150x150",
            id="a crop",
        ),
        *(
            pytest.param([(f"a{query}", None, None)], f"a{query}", id=query)
            for query in (
                "?stp=s99x10",
                "?stp=p10x99",
                "?stp=dst-jpg_e35_s99x99_tt6",
                "?x=1&stp=dst-jpg_p240x10&y=1",
            )
        ),
        *(
            pytest.param([(f"a{query}", None, None)], None, id=query)
            for query in (
                "?stp=dst-jpg&x=y_s99x99",
                "?stp=s99x9",
                "?nostp=s99x99",
                "?stp=s9x99",
                "?stp=s99x99q",
                "?stp=xs99x99",
                "?x=s99x99",
            )
        ),
    ],
)
def test_thumbnail_is_the_largest_of_the_small_pictures(
    versions: list[tuple[str, Any, Any]], small: str | None
) -> None:
    versions = [("whole", 1000, 1000), *versions]
    images = picture(*(sized(*version) for version in versions))
    for media in (images, {**images, **VIDEO}):
        found = item(media).small
        assert (found and found.url.removeprefix(CDN)) == small


def manifest(**urls: str) -> str:
    inside = "".join(
        f'<Representation mimeType="{kind}/mp4"><BaseURL>{url}</BaseURL></Representation>'
        for kind, url in urls.items()
    )
    return f"<MPD><Period><AdaptationSet>{inside}</AdaptationSet></Period></MPD>"


@pytest.mark.parametrize(
    ("text", "has_file", "streams", "is_logged"),
    [
        pytest.param(manifest(video=CDN + "v"), True, ["video v"], False, id="a video"),
        pytest.param(
            manifest(video=CDN + "v", audio=CDN + "a"),
            True,
            ["video v", "audio a"],
            False,
            id="a video and its sound",
        ),
        pytest.param(manifest(audio=CDN + "a"), False, ["audio a"], False, id="only a sound"),
        pytest.param(manifest(video="http://cdn/v"), False, [], False, id="without TLS"),
        pytest.param(manifest(video="/v"), False, [], False, id="not a URL"),
        pytest.param("<MPD>", False, [], True, id="not XML"),
        pytest.param(" ", False, [], False, id="blank"),
        *(
            pytest.param(value, False, [], False, id=str(value))
            for value in (None, *OTHER_TYPES[3:])
        ),
    ],
)
def test_video_may_have_only_a_manifest(
    text: object, has_file: bool, streams: list[str], is_logged: bool
) -> None:
    with capture_logs() as logs:
        described = read(carousel({"media_type": 2, "video_dash_manifest": text}, PICTURE))
        whole = item({**VIDEO, "video_dash_manifest": text})
    found = [f"{one.type} {one.url.removeprefix(CDN)}" for one in whole.streams]
    assert (found, whole.candidates[0].url) == (streams, CDN + "v.mp4")
    first = described.items[0]
    assert (first is not None) == has_file
    assert first is None or (first.candidates, first.streams) == ((), whole.streams)
    assert [line["event"] for line in logs] == ["manifest not read"] * 2 * is_logged


# ---- texts, numbers, people


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ({"text": "Sun"}, "Sun"),
        ("Sun", "Sun"),
        ({"text": ""}, ""),
        ({"text": " \n"}, " \n"),
        ({"text": None}, ""),
        ({}, ""),
        ("Sun \ud83c", "Sun ?"),
        ("x" * 10_000, "x" * 10_000),
    ]
    + [(value, "") for value in (None, True, 7, [], ["Sun"])],
)
def test_caption_is_text_or_empty(caption: object, text: str) -> None:
    with capture_logs() as logs:
        assert read({**PICTURE, "caption": caption}).caption == text
    assert logs == []


def test_truncating_a_caption_is_logged() -> None:
    with capture_logs() as logs:
        assert read({**PICTURE, "caption": "x" * 10_001}).caption == "x" * 10_000
    assert [line["characters"] for line in logs] == [10_001]


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_768_478_400, "2026-01-15T12:00:00Z"),
        (1_768_478_400.9, "2026-01-15T12:00:00Z"),
        ("1768478400", "2026-01-15T12:00:00Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
        ("0", "1970-01-01T00:00:00Z"),
        ("253402300799", "9999-12-31T23:59:59Z"),
    ]
    + [
        (value, None)
        for value in (
            *(
                253_402_300_800,
                -1,
                10**400,
                math.nan,
                math.inf,
                "-1",
                "1.5",
                "0" * 13,
                "\u0661",
                "1\n",
            ),
            *OTHER_TYPES,
        )
    ],
)
def test_unix_time_becomes_a_time_in_utc(value: object, moment: str | None) -> None:
    assert read({**PICTURE, "taken_at": value}).taken_at == moment


@pytest.mark.parametrize(
    ("value", "count"),
    [(0, 0), (7, 7), (7.9, 7), (2**53, 2**53), (2**53 + 1, None), (-1, None)]
    + [(value, None) for value in (*OTHER_TYPES, "7", math.nan, math.inf, 10**400)],
)
def test_count_is_a_non_negative_integer_that_json_can_hold(
    value: object, count: int | None
) -> None:
    found = details(like_count=value, comment_count=value)
    assert (found.likes, found.comments) == (count, count)
    # Zero usually means that views were not counted.
    assert details(play_count=value).views == (count or None)


def test_views_are_the_first_nonzero_count() -> None:
    counts = {"play_count": 1, "view_count": 2, "ig_play_count": 3}
    for expected, name in enumerate(list(counts), start=1):
        assert details(**counts).views == expected
        counts[name] = 0


@pytest.mark.parametrize(("hidden", "shown"), [(True, None), (False, 5), (None, 5), (1, 5)])
def test_hidden_counts_are_not_shown(hidden: object, shown: int | None) -> None:
    counts = {"like_count": 5, "play_count": 5, "comment_count": 5}
    found = details(**counts, like_and_view_counts_disabled=hidden)
    assert (found.likes, found.views, found.comments) == (shown, shown, 5)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (" a ", " a "), ("x" * 2_001, "x" * 2_000), ("a\udc00", "a?")]
    + [(value, None) for value in ("", " \n", 7, *OTHER_TYPES[3:], None)],
)
def test_name_is_a_non_blank_string(value: object, text: str | None) -> None:
    media = {**PICTURE, "user": {"username": value, "full_name": value}}
    described = read({**media, "location": {"name": value}, "product_type": value})
    assert described.owner == described.details.owner_name == text
    assert described.details.location == described.details.product_type == text
    assert item({**PICTURE, "accessibility_caption": value}).alt_text == text


@pytest.mark.parametrize("other", [*OTHER_TYPES[:5], 7])
def test_owner_replaces_a_malformed_user(other: object) -> None:
    people = {"user": other, "owner": {"username": "someone", "full_name": "Some One"}}
    described = read({**PICTURE, **people})
    assert (described.owner, described.details.owner_name) == ("someone", "Some One")
    assert read({**PICTURE, "user": {"username": "first"}, "owner": {}}).owner == "first"


@pytest.mark.parametrize(
    ("user", "number"),
    [
        ({"pk": "100", "id": "200"}, "100"),
        ({"pk": 100}, "100"),
        ({"pk": None, "id": "200"}, "200"),
        ({"pk": "", "id": 200}, "200"),
        ({"pk": True}, None),
        ({"pk": []}, None),
        ({}, None),
    ],
)
def test_owner_id_is_a_string(user: dict[str, Any], number: str | None) -> None:
    assert details(user=user).owner_id == number


def names(*values: Any) -> list[Any]:
    return [{"username": value} for value in values]


def tags(*values: Any) -> dict[str, Any]:
    return {"usertags": {"in": [{"user": user} for user in names(*values)]}}


def test_each_person_is_listed_once_in_order() -> None:
    people = names("b", "a", "b", None, " ", 7)
    assert details(coauthor_producers=[*people, None, "x"]).coauthors == ("b", "a")
    children = [{**PICTURE, **tags("d", "c")}, {**PICTURE, **tags("b", "e")}, None]
    described = read(carousel(*children, **tags("c", "b")))
    assert described.details.tagged == ("c", "b", "d", "e")


def test_at_most_a_hundred_people_are_listed() -> None:
    many = [f"user-{number}" for number in range(101)]
    assert details(coauthor_producers=names(*many)).coauthors == tuple(many[:100])
    assert details(**tags(*many)).tagged == tuple(many[:100])
    # At most 100 tags of an item are read.
    assert details(**tags(*[None] * 100, "late")).tagged == ()


@pytest.mark.parametrize("value", [*OTHER_TYPES, 7])
def test_malformed_people_are_left_out(value: Any) -> None:
    assert details(coauthor_producers=value).coauthors == ()
    for found in (value, {"in": value}, {"in": [value]}, {"in": [{"user": value}]}):
        assert details(usertags=found).tagged == ()


SONG = {"music_info": {"music_asset_info": {"title": "Song", "display_artist": "Band"}}}
OWN = {"original_sound_info": {"original_audio_title": "Own", "ig_artist": {"username": "me"}}}


FAST = {"fast_start_progressive_download_url": "https://cdn/f"}
FAST_SOUND = Music("", None, "https://cdn/f")


def with_url(title: str | None, name: str) -> dict[str, Any]:
    asset = {"title": title, "progressive_download_url": f"https://cdn/{name}"}
    return {"music_info": {"music_asset_info": asset}}


@pytest.mark.parametrize(
    ("clips", "music", "expected"),
    [
        (OWN, with_url("Song", "a"), Music("Song", None, "https://cdn/a")),
        (SONG, with_url("Song", "a"), Music("Song", None, "https://cdn/a")),
        (with_url("One", "a"), with_url("Other", "b"), Music("One", None, "https://cdn/a")),
        (None, with_url(None, "a"), Music("", None, "https://cdn/a")),
        *(
            ({"original_sound_info": {"progressive_download_url": url, **FAST}}, None, FAST_SOUND)
            for url in (None, "text", "http://cdn/without-tls")
        ),
        (SONG, {"music_info": None}, Music("Song", "Band")),
        (
            {"original_sound_info": {"progressive_download_url": "https://cdn/own"}},
            None,
            Music("", None, "https://cdn/own"),
        ),
    ],
)
def test_sound_with_a_url_comes_first(clips: object, music: object, expected: Music) -> None:
    assert details(clips_metadata=clips, music_metadata=music).music == expected


@pytest.mark.parametrize(
    ("clips", "music"),
    [
        ({**SONG, **OWN}, Music("Song", "Band")),
        (OWN, Music("Own", "me")),
        ({"music_info": {"music_asset_info": {"title": "Song"}}}, Music("Song", None)),
        ({"original_sound_info": {"original_audio_title": "Own"}}, Music("Own", None)),
        ({**OWN, "music_info": {"music_asset_info": {"title": " "}}}, Music("Own", "me")),
        ({"music_info": {"music_asset_info": {"display_artist": "Band"}}}, None),
        ({"original_sound_info": {"ig_artist": {"username": "me"}}}, None),
    ]
    + [(value, None) for value in OTHER_TYPES],
)
def test_song_comes_before_the_original_sound(clips: object, music: Music | None) -> None:
    assert details(clips_metadata=clips).music == music


# ---- which object is the post


@pytest.mark.parametrize(
    ("media", "belongs"),
    [
        ({"code": CODE.text}, True),
        ({"code": "another-one", "pk": str(CODE.media_id)}, True),
        ({"code": "another-one", "pk": CODE.media_id}, True),
        ({"code": "another-one", "pk": "1"}, False),
        ({"code": "another-one"}, False),
        ({"code": ""}, False),
        ({"code": None, "pk": "1"}, True),
        ({"code": 7}, True),
        ({}, True),
        *((value, False) for value in OTHER_TYPES if not isinstance(value, dict)),
    ],
)
def test_only_another_code_contradicts_the_query(media: object, belongs: bool) -> None:
    assert belongs_to(media, CODE) is belongs


def test_private_link_matches_with_and_without_its_key() -> None:
    private = Shortcode("DExample001" + "k" * 28)
    for code in (private.code, private.text):
        assert belongs_to({"code": code}, private)


@pytest.mark.parametrize(
    ("wrapper", "expected"),
    [
        ({"if_not_gated_logged_out": None}, Reason.GATED),
        ({"if_not_gated_logged_out": {"code": "another-one"}}, Reason.CHANGED),
        ({"if_not_gated_logged_out": "text"}, Reason.CHANGED),
        ({"code": CODE.text}, Reason.CHANGED),
        ([], Reason.CHANGED),
        (None, Reason.CHANGED),
    ],
)
def test_wrapper_without_the_post_is_refused(wrapper: object, expected: Reason) -> None:
    with pytest.raises(Refused) as refused:
        ungated(wrapper, CODE)
    assert refused.value.reason is expected


def test_post_is_read_from_its_wrapper() -> None:
    media = {**VIDEO, "code": CODE.text}
    assert ungated({"if_not_gated_logged_out": media}, CODE) == media


STUB = {"code": CODE.text, "media_type": 2}
WRAPPED_STUB = {"if_not_gated_logged_out": {**STUB, "image_versions2": None}}
WHOLE = {**VIDEO, "code": CODE.text}
GATED = {"if_not_gated_logged_out": None}


@pytest.mark.parametrize(
    "media",
    [
        WHOLE,
        {**PICTURE, "code": CODE.text},
        {**carousel(PICTURE), "code": CODE.text},
        {**VIDEO, "code": "another-one", "pk": str(CODE.media_id)},
    ],
)
@pytest.mark.parametrize(
    "others", [[], [STUB], [WRAPPED_STUB], [{**VIDEO, "code": "another-one"}], [GATED]]
)
def test_post_of_a_page_is_found_among_others(media: Any, others: list[Any]) -> None:
    for data in ([*others, media], [media, *others], {"a": {"b": [others, {"c": [media]}]}}):
        assert find_in_page(data, CODE) == media


def test_wrapped_post_of_a_page_is_found() -> None:
    for stub in (STUB, WRAPPED_STUB):
        assert find_in_page([stub, {"if_not_gated_logged_out": WHOLE}], CODE) == WHOLE
    in_parts = {"code": CODE.text, "video_dash_manifest": "<MPD/>"}
    assert find_in_page([STUB, in_parts], CODE) == in_parts


def test_gate_in_a_page_counts_only_without_the_post() -> None:
    gate, other = ({"if_not_gated_logged_out": it, "code": CODE.text} for it in (None, "text"))
    for data in ([STUB, gate], [gate, other], [other, gate]):
        with pytest.raises(Refused) as refused:
            find_in_page(data, CODE)
        assert refused.value.reason is Reason.GATED


EMPTY_PICTURES: list[Any] = [None, {}, {"candidates": None}, {"candidates": [], "more": None}]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"video_versions": None, "carousel_media": None, "video_dash_manifest": None},
        {"video_versions": [], "carousel_media": [], "video_dash_manifest": ""},
        *({"image_versions2": pictures} for pictures in EMPTY_PICTURES),
    ],
)
def test_page_with_only_a_stub_returns_none(fields: dict[str, Any]) -> None:
    stub = {**STUB, **fields}
    for data in (stub, {"if_not_gated_logged_out": stub}, [WRAPPED_STUB, stub]):
        assert find_in_page(data, CODE) is None


UNKNOWN = {**STUB, "image_versions2": {"new_key": []}}


@pytest.mark.parametrize(
    "data",
    [
        UNKNOWN,
        {"if_not_gated_logged_out": UNKNOWN},
        {**STUB, "taken_at": 1, "renamed": [{"url": "u"}]},
        [STUB, UNKNOWN],
        [STUB, {"if_not_gated_logged_out": {**VIDEO, "code": "another-one"}}],
        [STUB, {"if_not_gated_logged_out": "text", "code": CODE.text}],
        {**STUB, "video_versions": {"new_key": []}},
        [{**VIDEO, "code": "another-one"}],
        [{"if_not_gated_logged_out": {**VIDEO, "code": "another-one"}}],
        [{"if_not_gated_logged_out": None, "code": "another-one"}],
        *([], {}, None, "text"),
    ],
)
def test_page_without_the_post_is_refused(data: Any) -> None:
    with pytest.raises(Refused) as refused:
        find_in_page(data, CODE)
    assert refused.value.reason is Reason.CHANGED


def test_outermost_object_is_found_first() -> None:
    first = {**WHOLE, "pk": 1}
    for data in ([{"a": first}, {**WHOLE, "pk": 2}], {"a": first, "b": {**WHOLE, "pk": 2}}):
        assert find_in_page(data, CODE) == first
    assert find_in_page({**WHOLE, "inner": {**WHOLE, "pk": 3}}, CODE) != {**WHOLE, "pk": 3}
    nested: Any = WHOLE
    for _ in range(10_000):
        nested = [nested]
    assert find_in_page(nested, CODE) == WHOLE


def test_nested_values_are_never_converted_to_text() -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    other = {**WHOLE, "code": "another-one", "pk": nested}
    assert find_in_page([other, WHOLE], CODE) == WHOLE
    assert not belongs_to(other, CODE)
    assert item({**picture(sized("p"), {"url": nested}), "media_type": None}).type == "image"
    assert item({**PICTURE, "media_type": None, "__typename": nested}).type == "image"
    assert reason(picture({"url": nested})) is Reason.CHANGED


# ---- two descriptions


def test_two_carousels_fill_each_other() -> None:
    other = {**PICTURE, **VIDEO}
    ours, theirs = read(carousel(None, PICTURE)), read(carousel(other, other, other))
    assert ours.filled_from(theirs).items == (theirs.items[0], ours.items[1], theirs.items[2])
    assert ours.filled_from(theirs).complete


def test_single_post_fills_no_gaps_of_a_carousel() -> None:
    lacking, single = read(carousel(None, PICTURE)), read(PICTURE)
    assert lacking.filled_from(single) == single.filled_from(lacking) == lacking
    assert read(VIDEO).filled_from(single).items[0] == item(VIDEO)


# ---- hypothesis: a realistic media object with one broken value

ANYTHING = st.sampled_from([None, "", "text", 0, -1, 10**30, 1.5, True, [], {}, [None], {"a": 1}])
TEMPLATES = {
    shape: POSTS.describe("broken-0", Scenario("", shape=shape))
    for shape in ("video", "photo", "carousel")
}


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a media object."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from paths_of(inner, (*path, key))


PLACES = [(shape, path) for shape, it in TEMPLATES.items() for path in paths_of(it)]


def broken(media: Any, path: tuple[Any, ...], value: Any, *, remove: bool) -> dict[str, Any]:
    """Return a copy of *media* with one value replaced or removed."""
    changed: dict[str, Any] = copy.deepcopy(media)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    if remove and isinstance(place, dict):
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


def usable_urls(media: Any, *, is_video: bool) -> set[str]:
    """Return the URLs of an item's file; for a video, not those of its cover."""
    if not isinstance(media, dict):
        return set()
    versions = media.get("video_versions")
    if not is_video:
        images = media.get("image_versions2")
        versions = images.get("candidates") if isinstance(images, dict) else None
    found = [
        version.get("url")
        for version in (versions if isinstance(versions, list) else ())
        if isinstance(version, dict)
    ]
    urls = {url for url in found if isinstance(url, str) and url.startswith("https://")}
    return {url for url in urls if "stp=c0." not in url}


def items_of(media: dict[str, Any], shape: str) -> list[Any]:
    children = media.get("carousel_media")
    if shape != "carousel":
        return [media]
    return children if isinstance(children, list) else []


@settings(max_examples=1000)
@given(place=st.sampled_from(PLACES), value=ANYTHING, remove=st.booleans())
def test_one_broken_value_loses_no_file_with_a_url(
    place: tuple[str, tuple[Any, ...]], value: Any, remove: bool
) -> None:
    shape, path = place
    media = broken(TEMPLATES[shape], path, value, remove=remove)
    are_videos = ["video_versions" in it for it in items_of(TEMPLATES[shape], shape)]
    wanted = [
        usable_urls(it, is_video=is_video)
        for it, is_video in zip(items_of(media, shape), are_videos, strict=False)
    ]
    usable_type = type(media.get("media_type")) is not int or media["media_type"] in (1, 2, 8)
    if not any(wanted) or not usable_type:
        return
    items = read(media).items
    for urls, found in zip(wanted, items, strict=False):
        assert not urls or (found and urls <= {it.url for it in found.candidates})
    assert len(items) >= len(wanted)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*TEMPLATES["video"], "candidates", "in", "url"]), inner, max_size=5
        )
    ),
    max_leaves=10,
)


@given(media=st.dictionaries(st.sampled_from(list(TEMPLATES["carousel"])), JSON))
def test_arbitrary_object_is_described_or_refused(media: dict[str, Any]) -> None:
    with suppress(Refused):
        assert any(read(media).items)


def test_media_id_is_the_code_in_base_64() -> None:
    assert CODE.media_id == media_id(CODE.text)
