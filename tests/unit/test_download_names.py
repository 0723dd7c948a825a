"""The file names of downloads and archives."""

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.handlers.download_names import DownloadNames, disposition
from scrapper.library.post import MediaItem, Post


def item(filename: str) -> MediaItem:
    return MediaItem("image", filename, "", 3, None, None)


CAROUSEL = tuple(item(f"abcde{tail}") for tail in ("_1.jpg", "_2.mp4", "_2_h264.mp4", "_2.m4a"))
NAMED, TIMED = "some.one 2026-01-15", "2026-01-15_12-30-59"
POST = Post("abcde", "", "some.one", "2026-01-15T12:30:59Z", "", (item("abcde.jpg"),))


@pytest.mark.parametrize(
    ("template", "single", "second", "archive"),
    [
        ("{shortcode}", "abcde.jpg", "abcde_2.mp4", "abcde.zip"),
        ("{owner} {date}", f"{NAMED}.jpg", f"{NAMED}_2.mp4", f"{NAMED}.zip"),
        ("{date}_{time}_{number}", f"{TIMED}_1.jpg", f"{TIMED}_2.mp4", f"{TIMED}.zip"),
        ("{number}", "1.jpg", "2.mp4", "abcde.zip"),
        ("a/b:c {shortcode}. ", "a_b_c abcde.jpg", "a_b_c abcde_2.mp4", "a_b_c abcde.zip"),
        ("..", "abcde.jpg", "abcde_2.mp4", "abcde.zip"),
        ("con", "_con.jpg", "con_2.mp4", "_con.zip"),
        ("LPT1.{owner}", "_LPT1.some.one.jpg", "_LPT1.some.one_2.mp4", "_LPT1.some.one.zip"),
        ("{{{shortcode}}}", "{abcde}.jpg", "{abcde}_2.mp4", "{abcde}.zip"),
        ("\u202egpj.{shortcode}", "gpj.abcde.jpg", "gpj.abcde_2.mp4", "gpj.abcde.zip"),
    ],
)
def test_a_template_names_files_and_archives(
    template: str, single: str, second: str, archive: str
) -> None:
    names = DownloadNames(template)
    assert names.of(POST, POST.media[0]) == single
    assert names.of(replace(POST, media=CAROUSEL), CAROUSEL[1]) == second
    assert names.of_archive(POST) == archive


def test_unknown_values_are_named_unknown() -> None:
    post = replace(POST, owner=None, taken_at=None)
    names = DownloadNames("{owner} {date} {time}")
    assert names.of(post, post.media[0]) == "unknown unknown unknown.jpg"


@pytest.mark.parametrize("template", ["{shortcode}", "{owner}", "{number}"])
def test_no_two_files_of_an_archive_share_a_name(template: str) -> None:
    media = (*CAROUSEL, item("abcde_2.MP4"), item("abcde_02.mp4"))
    names = DownloadNames(template).of_all(replace(POST, media=media), media)
    assert len({name.casefold() for name in names}) == len(media)


@given(
    template=st.text(max_size=200).map(lambda text: text.replace("{", "{{").replace("}", "}}"))
    | st.sampled_from(["{owner}", "{owner}{owner}", "{shortcode} {owner}"]),
    owner=st.text(max_size=300),
    tails=st.lists(st.sampled_from([".jpg", "_1.jpg", "_2.mp4", "_2_h264.mp4"]), min_size=1),
)
def test_any_text_becomes_a_safe_name(template: str, owner: str, tails: list[str]) -> None:
    media = tuple(item(f"abcde{tail}") for tail in tails)
    post = replace(POST, owner=owner, media=media)
    names = DownloadNames(template)
    for name in (*names.of_all(post, media), names.of_archive(post)):
        assert 0 < len(name.encode()) <= 200
        assert not set(name) & set('<>:"/\\|?*')
        assert all(unicodedata.category(character)[0] != "C" for character in name)
        assert name == name.strip(" .")
        assert disposition("attachment", name).isascii()


def test_a_name_with_non_ascii_characters_is_sent_in_two_forms() -> None:
    assert disposition("attachment", "Grün.jpg") == (
        "attachment; filename=\"Gr_n.jpg\"; filename*=UTF-8''Gr%C3%BCn.jpg"
    )
