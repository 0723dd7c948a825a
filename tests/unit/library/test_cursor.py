"""Where the next page of a listing begins."""

from hypothesis import given
from hypothesis import strategies as st

from scrapper.library.listing import Cursor


@given(
    st.floats(2**22, 2**33),
    st.from_regex(r"[A-Za-z0-9_-]{5,64}", fullmatch=True),
)
def test_a_cursor_is_read_as_it_was_written(stored_at: float, shortcode: str) -> None:
    assert Cursor.parse(str(Cursor(stored_at, shortcode))) == (stored_at, shortcode)


@given(st.text())
def test_any_text_is_a_cursor_or_a_value_error(text: str) -> None:
    try:
        Cursor.parse(text)
    except ValueError:
        return
