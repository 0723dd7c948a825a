import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.errors import (
    AudioLink,
    HighlightLink,
    InvalidURL,
    ProfileLink,
    StoryLink,
    UnsupportedLink,
)
from scrapper.instagram.shortcode import Shortcode
from scrapper.links import (
    ShareLink,
    clean_link,
    is_shortcode,
    item_in,
    names_story,
    pasted_link,
    read_link,
)

SHORTCODES = st.text(string.ascii_letters + string.digits + "_-", min_size=5, max_size=64)


@pytest.mark.parametrize(
    "url",
    [
        "https://www.instagram.com/reel/SHORTCODE/",
        "https://www.instagram.com/reel/SHORTCODE",
        "https://instagram.com/p/SHORTCODE/",
        "https://www.instagram.com/reels/SHORTCODE/",
        "https://www.instagram.com/tv/SHORTCODE/",
        "https://www.instagram.com/some.user_1/reel/SHORTCODE/",
        "https://www.instagram.com/some.user_1/p/SHORTCODE/?igsh=abc==#top",
        "https://www.instagram.com/p/SHORTCODE/?img_index=2",
        "https://www.instagram.com/p/SHORTCODE/comments/",
        "HTTPS://WWW.Instagram.COM/reel/SHORTCODE/",
        "https://www.instagram.com:443/reel/SHORTCODE/",
        "https://www.instagram.com/reel/SHORT%43ODE/",
        f"https://www.instagram.com/{'x' * 30}/reel/SHORTCODE/",
        "https://www.instagram.com/SOME.USER/reel/SHORTCODE/",
    ],
)
def test_shortcode_of_a_post_url_is_found(url: str) -> None:
    assert read_link(url, max_length=512) == "SHORTCODE"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "SHORTCODE",
        "http://www.instagram.com/reel/SHORTCODE/",
        "ftp://www.instagram.com/reel/SHORTCODE/",
        "//www.instagram.com/reel/SHORTCODE/",
        "https://m.instagram.com/reel/SHORTCODE/",
        "https://www.instagram.com.evil.example/reel/SHORTCODE/",
        "https://evil.example/www.instagram.com/reel/SHORTCODE/",
        "https://www.instagram.com./reel/SHORTCODE/",
        "https://user@www.instagram.com/reel/SHORTCODE/",
        "https://www.instagram.com:pass@evil.example/reel/SHORTCODE/",
        "https://www.instagram.com\\@evil.example/reel/SHORTCODE/",
        "https://@www.instagram.com/reel/SHORTCODE/",
        "https://www.instagram.com:8443/reel/SHORTCODE/",
        "https://www.instagram.com:99999/reel/SHORTCODE/",
        "https://www.instagram.com:x/reel/SHORTCODE/",
        "https://[www.instagram.com/reel/SHORTCODE/",
        "https://www.instagram.com",
        "https://www.instagram.com/",
        "https://www.instagram.com/reel/",
        "https://www.instagram.com/reel//SHORTCODE/",
        "https://www.instagram.com//reel/SHORTCODE/",
        "https://www.instagram.com/REEL/SHORTCODE/",
        "https://www.instagram.com/a/b/reel/SHORTCODE/",
        "https://www.instagram.com/us%2Fer/reel/SHORTCODE/",
        "https://www.instagram.com/" + "x" * 31,
        f"https://www.instagram.com/{'x' * 31}/reel/SHORTCODE/",
        "https://www.instagram.com/reel/four/",
        "https://www.instagram.com/reel/" + "x" * 65,
        "https://www.instagram.com/reel/SHORT.CODE/",
        "https://www.instagram.com/reel/SHORT%2FCODE/",
        "https://www.instagram.com/reel/..%2F..%2Fetc/",
        "https://www.instagram.com/reel/SHORTCODE%00/",
        "https://www.instagram.com/reel/SHORTCODE%0A/",
        "https://www.instagram.com/reel/SHORT\nCODE/",
        "https://www.instagram.com/reel/SHORT\u200bCODE/",
        "\x00https://www.instagram.com/reel/SHORTCODE/",
        "see https://www.instagram.com/reel/SHORTCODE/",
        " ",
        "https://www.instagram.com/reel/SHORTCODE/?a=b c",
        "https://www.instagram.com/reel/SHORTCÖDE/",
        "https://www.instagram.com/reel/SHORTCODE/?\ud800",
        "javascript:https://www.instagram.com/reel/SHORTCODE/",
    ],
)
def test_any_other_text_is_an_invalid_url(url: str) -> None:
    with pytest.raises(InvalidURL):
        read_link(url, max_length=512)


@pytest.mark.parametrize(
    "around",
    list(" \t\r\n\v\f\x1c\x85\u00a0\u2003\u2028\u2029\u202f\u3000")
    + list("\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\u202a\u202e\u2066\u2069\u061c\u00ad"),
)
def test_whitespace_and_invisible_characters_around_a_url_are_ignored(around: str) -> None:
    url = "https://www.instagram.com/reel/SHORTCODE/"
    for text in (around + url, url + around, f"{around} {url}\n{around}"):
        assert read_link(text, max_length=len(url)) == "SHORTCODE"
        assert clean_link(text) == url


@pytest.mark.parametrize(
    ("query", "item"),
    [
        ("?img_index=3", 3),
        ("?igsh=x&img_index=12#top", 12),
        ("?img_index=03", 3),
        ("?img_index=000003", 3),
        ("?img_index=0000003", None),
        ("?img_index=9999", 9999),
        ("?img_index=10000", None),
        ("?img_index=2&img_index=3", 2),
        ("", None),
        ("?img_index=", None),
        ("?img_index=0", None),
        ("?img_index=-1", None),
        ("?img_index=x", None),
        ("?img_index=\u0663", None),
        ("?img_index=" + "9" * 400, None),
    ],
)
def test_img_index_is_the_item_number(query: str, item: int | None) -> None:
    assert item_in(f"https://www.instagram.com/p/SHORTCODE/{query}") == item


@pytest.mark.parametrize("length", [5, 64])
def test_shortcode_has_five_to_sixty_four_characters(length: int) -> None:
    shortcode = "x" * length
    assert read_link(f"https://www.instagram.com/p/{shortcode}/", max_length=512) == shortcode


def test_url_longer_than_the_maximum_is_invalid() -> None:
    url = "https://www.instagram.com/reel/SHORTCODE/?x="
    longest = url + "y" * (512 - len(url))
    assert read_link(longest, max_length=512) == "SHORTCODE"
    with pytest.raises(InvalidURL):
        read_link(longest + "y", max_length=512)


@given(
    shortcode=SHORTCODES,
    kind=st.sampled_from(["p", "reel", "reels", "tv"]),
    user=st.sampled_from(["", "/someone", "/a.b_c1"]),
    tail=st.sampled_from(["", "/", "/?igsh=x", "/embed/", "?a=1#b"]),
)
def test_every_form_of_url_preserves_the_shortcode(
    shortcode: str, kind: str, user: str, tail: str
) -> None:
    url = f"https://www.instagram.com{user}/{kind}/{shortcode}{tail}"
    assert read_link(url, max_length=512) == shortcode


@given(st.text() | st.text().map("https://www.instagram.com/".__add__))
def test_arbitrary_text_never_yields_a_malformed_link(text: str) -> None:
    with suppress(InvalidURL, UnsupportedLink):
        link = read_link(text, max_length=512)
        assert isinstance(link, ShareLink) or is_shortcode(link)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://www.instagram.com/share/BASE_64-x/", "share/BASE_64-x/"),
        ("https://instagram.com/share/p/BASE_64-x", "share/p/BASE_64-x/"),
        ("https://www.instagram.com/share/reel/BASE_64-x/?igsh=1", "share/reel/BASE_64-x/"),
    ],
)
def test_share_link_is_not_read_as_a_post(url: str, path: str) -> None:
    assert read_link(url, max_length=512) == ShareLink(path)
    assert not names_story(url)


@pytest.mark.parametrize(
    "path",
    [
        "stories/some.one/3456789012345678901/",
        "stories/someone/3456789012345678901?utm_source=x",
        "s/aGlnaGxpZ2h0OjE3OTAw?story_media_id=3456789012345678901&story_media_id=1",
        "s/aGlnaGxpZ2h0OjE3OTAw?story_media_id=3456789012345678901",
        "s/aGlnaGxpZ2h0OjE3OTAw/?igsh=x&story_media_id=3456789012345678901_4242",
        "/stories/someone/3456789012345678901/",
        "%73tories/someone/3456789012345678901/",
        "stories//someone/345678901234567890%31/",
        "/s/aGlnaGxpZ2h0OjE3OTAw?story_media_id=3456789012345678901",
        "%73/aGlnaGxpZ2h0OjE3OTAw?story_media_id=3456789012345678901",
    ],
)
def test_story_link_yields_the_shortcode_of_its_media_id(path: str) -> None:
    url = f"https://www.instagram.com/{path}"
    assert read_link(url, max_length=512) == "C_4-0q4Vmw1"
    assert Shortcode("C_4-0q4Vmw1").media_id == 3456789012345678901
    assert names_story(f" {url}\n")


def test_story_number_has_at_most_twenty_digits() -> None:
    url = "https://www.instagram.com/stories/someone/18446744073709551615/"
    assert read_link(url, max_length=512) == "P__________"


@pytest.mark.parametrize("path", ["stories/p", "s/p", "stories/reel", "stories.fan/p", "p"])
def test_post_link_is_not_read_as_a_story(path: str) -> None:
    url = f"https://www.instagram.com/{path}/SHORTCODE/?story_media_id=3456789012345678901"
    assert read_link(url, max_length=512) == "SHORTCODE"
    # A shortcode may consist of digits alone.
    for link in (url, url.replace("SHORTCODE", "3456789012345678901")):
        assert not names_story(link)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("stories/someone/1/", StoryLink),
        ("stories/someone/x/", StoryLink),
        ("stories/us%2Fer/3456789012345678901/", StoryLink),
        ("s/aGlnaGxpZ2h0OjE3OTAw", HighlightLink),
        ("s/aGlnaGxpZ2h0OjE3OTAw?story_media_id=x", HighlightLink),
        ("stories/someone/", StoryLink),
        ("stories/highlights/", StoryLink),
        ("stories/highlights/17900000000000000/", HighlightLink),
        ("stories/highlights/3456789012345678901", HighlightLink),
        ("stories/highlights/17900000000000000/x/y", HighlightLink),
        ("s/aGlnaGxpZ2h0OjE3OTAw?story_media_id=1", HighlightLink),
        ("someone/", ProfileLink),
        ("some.one_1", ProfileLink),
        ("x" * 30, ProfileLink),
        ("stories/someone/" + "3" * 21, StoryLink),
        ("someone/reels/", ProfileLink),
        ("someone/tagged/", ProfileLink),
        ("someone/feed/", ProfileLink),
        ("reels/audio/1234567890/", AudioLink),
        ("music/audio/1234567890/", AudioLink),
    ],
)
def test_link_to_another_page_raises_its_own_error(path: str, error: type[UnsupportedLink]) -> None:
    with pytest.raises(error):
        read_link(f"https://www.instagram.com/{path}", max_length=512)


# These look like user names but are Instagram's own pages.
PAGES = [
    *("about", "accounts", "api", "developer", "direct", "explore", "graphql", "legal"),
    *("music", "p", "press", "reel", "reels", "s", "share", "stories", "tv", "web"),
]


@pytest.mark.parametrize(
    "path", ["", "accounts/login/", "share/p/", "us%2Fer/", *(f"{it}/" for it in PAGES)]
)
def test_path_without_a_post_or_profile_is_invalid(path: str) -> None:
    with pytest.raises(InvalidURL):
        read_link(f"https://www.instagram.com/{path}", max_length=512)


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("https://www.instagram.com/p/SHORTCODE/", "SHORTCODE"),
        (" instagram.com/reel/SHORTCODE?x=1\n", "SHORTCODE"),
        ("http://WWW.instagram.com/someone/p/SHORTCODE", "SHORTCODE"),
        ("HTTPS://instagram.com/p/SHORTCODE", "SHORTCODE"),
        ("instagram.com.example/p/SHORTCODE", None),
        ("instagram.com:443/p/SHORTCODE", None),
        ("www.instagram.com/share/reel/SHORTCODE", ShareLink("share/reel/SHORTCODE/")),
        ("instagram.com/someone", None),
        ("instagram.com/stories/someone", None),
        ("instagram.com/s/aGlnaGxpZ2h0OjE3OTAw", None),
        ("instagram.com/reels/audio/1234567890", None),
        ("example.com/p/SHORTCODE", None),
        ("see instagram.com/p/SHORTCODE", None),
        ("SHORTCODE", None),
        ("", None),
    ],
)
def test_pasted_link_may_lack_its_scheme(text: str, link: object) -> None:
    assert pasted_link(text, max_length=512) == link
