"""Which of a page's scripts are read."""

from hypothesis import given
from hypothesis import strategies as st

from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources.page import json_scripts_of

CODE = "DExample001"
JSON = b'<script type="application/json" data-sjs>%b</script>'
POST = b'{"code":"DExample001","video_versions":[]}'
OTHERS = st.sampled_from(
    [
        b'<meta property="og:url" content="https://www.instagram.com/p/DExample001/">',
        b"<title>DExample001</title>",
        b"</script>",
        b"\n",
        b"<script>open('DExample001', 'video_versions')</script>",
        JSON % b'{"code":"DExample001"}',
        JSON % b'{"code":"DExample002","video_versions":[]}',
        JSON % (b'{"x":"' + b"x" * 600 + b'"}'),
        b'<script data-x="' + b"x" * 600 + b'"></script>',
    ]
)


@given(before=st.lists(OTHERS), after=st.lists(OTHERS))
def test_script_with_the_post_is_found_among_others(
    before: list[bytes], after: list[bytes]
) -> None:
    page = b"".join([*before, JSON % POST, *after])
    assert list(json_scripts_of(page, Shortcode(CODE))) == [POST]


def test_at_most_eight_scripts_of_a_page_are_read() -> None:
    page = (JSON % POST) * 1000
    assert list(json_scripts_of(page, Shortcode(CODE))) == [POST] * 8


def test_a_script_that_is_cut_off_is_not_read() -> None:
    page = (JSON % POST).removesuffix(b"</script>")
    assert list(json_scripts_of(page, Shortcode(CODE))) == []
