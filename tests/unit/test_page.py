"""The page's files, without a browser."""

import re

from scrapper.handlers.page import PAGE_FILES


def test_all_texts_of_the_page_stand_in_one_module() -> None:
    html = PAGE_FILES["/"].read_text()
    body = html[html.index("<body>") :]
    visible = [text.strip() for text in re.findall(r">([^<]+)<", body)]
    assert [text for text in visible if text] == []
    texts = PAGE_FILES["/texts.js"].read_text()
    for name in re.findall(r'data-text="([A-Za-z]+)"', html):
        assert re.search(rf"^  {name}:", texts, re.MULTILINE), name
