"""The cursor of a listing's next page."""

from hypothesis import given
from hypothesis import strategies as st

from scrapper.library.listing import Cursor


@given(
    st.floats(2**22, 2**33),
    st.from_regex(r"[A-Za-z0-9_-]{5,64}", fullmatch=True),
)
def test_a_cursor_survives_formatting_and_parsing(stored_at: float, shortcode: str) -> None:
    assert Cursor.parse(str(Cursor(stored_at, shortcode))) == (stored_at, shortcode)


@given(st.text())
def test_parsing_invalid_text_raises_only_value_error(text: str) -> None:
    try:
        Cursor.parse(text)
    except ValueError:
        return
