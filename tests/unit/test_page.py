"""Checks of the page's files that need no browser."""

import re

from scrapper.handlers.page import PAGE_FILES


def test_all_texts_of_the_page_are_in_one_module() -> None:
    html = PAGE_FILES["/"].read_text()
    body = html[html.index("<body>") :]
    texts_in_html = [text.strip() for text in re.findall(r">([^<]+)<", body)]
    assert [text for text in texts_in_html if text] == []
    assert re.findall(r'\s(?:aria-label|placeholder|title)="', body) == []
    texts = PAGE_FILES["/texts.js"].read_text()
    for name in re.findall(r'data-(?:text|label|placeholder)="([A-Za-z]+)"', html):
        assert re.search(rf"^  {name}:", texts, re.MULTILINE), name


def test_every_text_of_the_page_is_used() -> None:
    texts = PAGE_FILES["/texts.js"].read_text()
    texts = texts[texts.index("export const TEXTS") :]
    sources = [path.read_text() for path in PAGE_FILES.values() if path.suffix in (".js", ".html")]
    for name in re.findall(r"^  ([A-Za-z]+)(?::|,$)", texts, re.MULTILINE):
        used = rf'TEXTS\.{name}\b|data-(?:text|label|placeholder)="{name}"'
        assert any(re.search(used, source) for source in sources), name


def test_the_service_worker_caches_every_file_of_the_page() -> None:
    worker = PAGE_FILES["/worker.js"].read_text()
    [shell] = re.findall(r"SHELL = \[(.*?)\]", worker, re.DOTALL)
    cached = {"/" + name.removeprefix("./") for name in re.findall(r'"([^"]+)"', shell)}
    assert cached == PAGE_FILES.keys() - {"/worker.js"}
