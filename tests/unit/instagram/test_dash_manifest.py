"""Which files are read from a DASH manifest."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.instagram.files.dash import (
    MAX_MANIFEST_BYTES,
    MAX_REPRESENTATIONS,
    Representation,
    _Open,
    read_manifest,
)

VIDEO = (
    '<Representation bandwidth="1900000" codecs="vp09.00.40.08" mimeType="video/mp4" '
    'FBContentLength="95000" width="1080" height="1920" frameRate="24/24">'
    "<BaseURL>https://cdn/v.mp4?a=1&amp;b=2</BaseURL>"
    '<SegmentBase indexRange="818-897"><Initialization range="0-817"/></SegmentBase>'
    "</Representation>"
)


def mpd(*representations: str, attributes: str = 'contentType="video"', more: str = "") -> str:
    inside = "".join(representations)
    return (
        f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" {more}><Period>'
        f"<AdaptationSet {attributes}>{inside}</AdaptationSet></Period></MPD>"
    )


def test_a_representation_describes_a_file() -> None:
    [found] = read_manifest(mpd(VIDEO))
    url = "https://cdn/v.mp4?a=1&b=2"
    assert found == Representation("video", url, "vp9", 1080, 1920, 1_900_000, 95_000)


def test_a_representation_inherits_from_its_set() -> None:
    own = "<Representation><BaseURL> https://cdn/a </BaseURL></Representation>"
    attributes = 'mimeType="audio/mp4" codecs="mp4a.40.2" bandwidth="96000"'
    [found] = read_manifest(mpd(own, attributes=attributes))
    assert found == Representation("audio", "https://cdn/a", "mp4a.40.2", None, None, 96_000, None)


def test_namespace_prefixes_are_ignored() -> None:
    text = mpd(VIDEO).replace("</", "</d:").replace("<", "<d:").replace("<d:/d:", "</d:")
    assert len(read_manifest(text.replace("<d:?", "<?"))) == 1


@pytest.mark.parametrize(
    "inside",
    [
        "<ContentProtection/>",
        "<SegmentTemplate media='$Number$.m4s'/>",
        "<SegmentList><SegmentURL media='1.m4s'/></SegmentList>",
    ],
)
def test_protected_and_segmented_files_are_left_out(inside: str) -> None:
    assert read_manifest(mpd(VIDEO.replace("</BaseURL>", f"</BaseURL>{inside}"))) == []


def test_protection_may_follow_the_files() -> None:
    assert read_manifest(mpd(VIDEO, VIDEO, "<ContentProtection/>")) == []
    assert read_manifest(mpd(VIDEO).replace("</Period>", "<ContentProtection/></Period>")) == []


def test_a_protected_set_leaves_others_usable() -> None:
    other = '<AdaptationSet contentType="video"><ContentProtection/></AdaptationSet>'
    text = mpd(VIDEO).replace("<AdaptationSet", f"{other}<AdaptationSet")
    assert len(read_manifest(text.replace("</Period>", f"{other}</Period>"))) == 1


@pytest.mark.parametrize(
    ("codecs", "named", "kind"),
    [
        ("avc1.64001f", "", "video"),
        ("MP4A.40.2", "", "audio"),
        ("opus", 'mimeType="application/mp4"', "audio"),
        ("", 'mimeType="application/mp4" contentType="audio"', "audio"),
        ("mp4a.40.2", 'mimeType="video/mp4"', "video"),
    ],
)
def test_without_a_type_the_codec_decides(codecs: str, named: str, kind: str) -> None:
    own = f'<Representation codecs="{codecs}" {named}><BaseURL>https://cdn/a</BaseURL>'
    [found] = read_manifest(mpd(f"{own}</Representation>", attributes=""))
    assert found.type == kind


def test_white_space_around_a_manifest_is_ignored() -> None:
    assert len(read_manifest(f"\n {mpd(VIDEO)}\n")) == 1


def test_elements_inherit_only_known_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """If they inherited all, thirty thousand sets could have forty thousand attributes each."""
    most = 0

    def recording(name: str, attributes: Mapping[str, str], before: int) -> _Open:
        nonlocal most
        most = max(most, len(attributes))
        return _Open(name, attributes, before)

    monkeypatch.setattr("scrapper.instagram.files.dash._Open", recording)
    many = " ".join(f'a{number}="1"' for number in range(1000))
    assert len(read_manifest(mpd(VIDEO, attributes=f'{many} contentType="video"', more=many))) == 1
    assert most < 10


@pytest.mark.parametrize("number", ["0", "-1", "1e9", "9" * 5000, "abc", "\u0661", "100001"])
def test_invalid_numbers_are_unknown(number: str) -> None:
    [found] = read_manifest(mpd(VIDEO.replace('"1920"', f'"{number}"')))
    assert found.height is None


def test_a_representation_without_a_url_or_a_kind_is_left_out() -> None:
    without_url = '<Representation mimeType="video/mp4"/>'
    assert read_manifest(mpd(without_url, '<Representation mimeType="text/vtt"/>')) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "<html/>",
        mpd(VIDEO)[:-1],
        mpd(VIDEO, more='type="dynamic"'),
        mpd(*[VIDEO] * (MAX_REPRESENTATIONS + 1)),
        mpd(VIDEO, " " * MAX_MANIFEST_BYTES),
        mpd(VIDEO, "\u00e9" * (MAX_MANIFEST_BYTES // 2)),
        mpd("<a>" * 1000 + "</a>" * 1000),
        "<!DOCTYPE MPD><MPD/>",
        '<!DOCTYPE MPD [<!ENTITY x SYSTEM "file:///etc/passwd">]><MPD>&x;</MPD>',
        "<MPD>&x;</MPD>",
        "\0",
        "\ud83c",
    ],
)
def test_a_malformed_manifest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_manifest(text)


def test_representations_are_read_up_to_the_maximum() -> None:
    assert len(read_manifest(mpd(*[VIDEO] * MAX_REPRESENTATIONS))) == MAX_REPRESENTATIONS


@given(st.text() | st.text("<>/&\"'= MPDRepresentationBaseURL\n!-[]", max_size=500))
def test_any_text_is_read_or_refused(text: str) -> None:
    for manifest in (text, mpd(text)):
        try:
            read_manifest(manifest)
        except ValueError:
            continue
