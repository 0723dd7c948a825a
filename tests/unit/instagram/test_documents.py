"""The documents of queries, and the lookup of new ones within its limits."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.errors import PaceExceeded
from scrapper.instagram.documents import (
    DocumentFile,
    Documents,
    document_in,
    scripts_of,
)
from scrapper.instagram.sources.queries import QUERIES

NAME = "PolarisPostRootQuery"
OPERATION = (
    ';/*FB_PKG_DELIM*/\n__d("PolarisInventedQuery_instagramRelayOperation",[],(function(t,n,r,o,a,i)'
    '{a.exports="20000000000000001"}),null);\n__d("PolarisPostRootQuery_instagramRelayOperation",[],'
    '(function(t,n,r,o,a,i){"use strict";a.exports="20000000000000002"}),null);\n'
)
PARAMETERS = (
    '__d("PolarisPostRootQuery%s",["PolarisMultiCaptionCarouselEnabled.relayprovider",'
    '"PolarisPostRootQuery_instagramRelayOperation","PolarisNewThing.relayprovider"],(function(t){}'
    "),null);"
)
SCRIPT = (OPERATION + PARAMETERS % "$Parameters").encode()
LINK = b"https://static.cdninstagram.com/rsrc.php/v4/yA/%d.js"
PAGE = b"".join(b'<script src="%b?x=1"></script>' % (LINK % number) for number in range(9))


@pytest.mark.parametrize("module", ["$Parameters", ".graphql"])
def test_id_and_flags_are_read_from_a_script(module: str) -> None:
    flags = ("PolarisMultiCaptionCarouselEnabled", "PolarisNewThing")
    assert document_in((OPERATION + PARAMETERS % module).encode(), NAME) == (
        "20000000000000002",
        flags,
    )
    assert document_in(OPERATION.encode(), NAME) == ("20000000000000002", None)
    assert document_in(SCRIPT, "PolarisPostRoot") == ("", None)


@given(st.binary() | st.text().map(lambda text: SCRIPT[: len(text) * 9] + text.encode()))
def test_no_script_makes_the_lookup_raise(script: bytes) -> None:
    doc_id, _ = document_in(script, NAME)
    assert doc_id in ("", "20000000000000002")


def test_only_scripts_on_the_script_host_are_read() -> None:
    page = (
        b'<script src="https://static.cdninstagram.com/rsrc.php/v4/yA/r/one-1.js?_nc_x=1"></script>'
        b'{"src":"https:\\/\\/static.cdninstagram.com\\/rsrc.php\\/v4i7\\/two.js"}'
        b'<script src="https://static.cdninstagram.com.example/rsrc.php/x.js"></script>'
        b'<script src="https://example.com/static.cdninstagram.com/rsrc.php/x.js"></script>'
        b'<script src="http://static.cdninstagram.com/rsrc.php/x.js"></script>'
        b'<link href="https://static.cdninstagram.com/rsrc.php/x.css">'
        b'<script src="https://static.cdninstagram.com/rsrc.php/v4/yA/r/one-1.js"></script>'
    )
    base = "https://static.cdninstagram.com/rsrc.php"
    assert scripts_of(page) == (f"{base}/v4/yA/r/one-1.js", f"{base}/v4i7/two.js")


def test_crafted_page_does_not_slow_the_script_search() -> None:
    start = b"https://static.cdninstagram.com/rsrc.php"
    assert scripts_of(start + b"/a" * 200_000) == ()
    assert scripts_of((start + b"/a") * 20_000) == ()


class Site:
    """Serves scripts by number to several threads, and counts their requests."""

    def __init__(self, content: Callable[[int], bytes]) -> None:
        self.content = content
        self.requested: list[int] = []
        self.active = self.max_active = 0
        self.begun = 0
        self._lock = threading.Lock()

    def get(self, url: str) -> Iterator[bytes]:
        number = int(url.rpartition("/")[2].removesuffix(".js"))
        with self._lock:
            self.requested.append(number)
            self.active += 1
            self.max_active = max(self.max_active, self.active)
        content = self.content(number)
        for start in range(0, len(content), 100_000):
            yield content[start : start + 100_000]
        with self._lock:
            self.active -= 1

    def begin(self) -> None:
        self.begun += 1


def look_up(documents: Documents, site: Site, *sources: str) -> set[str]:
    wanted = sources or ("root_query",)
    return documents.look_up(wanted, site.get, site.begin, seconds=60)


def test_replacement_of_a_retired_document_survives_a_restart(tmp_path: Path) -> None:
    path, outcomes = tmp_path / "documents.json", []
    documents = Documents(memory=DocumentFile(path), report=lambda *one: outcomes.append(one))
    documents.record_page(PAGE)
    before = documents.current("root_query")
    site = Site(lambda number: SCRIPT if number == 4 else b"var x;")
    assert look_up(documents, site) == {"root_query"}
    for known in (documents, Documents(memory=DocumentFile(path))):
        assert known.current("root_query") == (
            "20000000000000002",
            {
                "__relay_internal__pv__PolarisMultiCaptionCarouselEnabledrelayprovider": True,
                "__relay_internal__pv__PolarisNewThingrelayprovider": False,
            },
        )
    assert before[0] == QUERIES["root_query"].doc_id
    assert outcomes == [("lookup_root_query", "ok")]
    assert (site.begun, site.max_active <= 3) == (1, True)


def test_documents_are_looked_up_at_most_once_a_day(tmp_path: Path) -> None:
    path = tmp_path / "documents.json"
    site = Site(lambda _: b"")
    for _ in range(2):
        documents = Documents(memory=DocumentFile(path))
        documents.record_page(PAGE)
        for _ in range(3):
            assert look_up(documents, site) == set()
    assert sorted(site.requested) == list(range(9))
    assert documents.current("root_query")[0] == QUERIES["root_query"].doc_id


def test_lookup_that_finds_the_current_document_changes_nothing() -> None:
    outcomes: list[tuple[str, str]] = []
    documents = Documents(report=lambda *one: outcomes.append(one))
    documents.record_page(PAGE)
    current = SCRIPT.replace(b"20000000000000002", QUERIES["root_query"].doc_id.encode())
    assert look_up(documents, Site(lambda _: current)) == set()
    assert (documents.found(), outcomes) == ({}, [("lookup_root_query", "same")])


def test_lookup_reads_at_most_20_megabytes() -> None:
    documents = Documents()
    documents.record_page(PAGE)
    sent = []
    site = Site(lambda number: sent.append(number) or bytes(7_000_000))  # type: ignore[func-returns-value]
    assert look_up(documents, site) == set()
    assert len(sent) <= 5


def test_nothing_is_looked_up_if_the_pace_refuses() -> None:
    documents, site = Documents(), Site(lambda _: SCRIPT)
    documents.record_page(PAGE)

    def refuse() -> None:
        raise PaceExceeded(retry_after=1)

    assert documents.look_up(["root_query"], site.get, refuse, seconds=60) == set()
    assert site.requested == []
    assert look_up(documents, site) == {"root_query"}


def test_nothing_is_looked_up_before_a_page_is_viewed() -> None:
    documents, site = Documents(), Site(lambda _: SCRIPT)
    assert look_up(documents, site) == set()
    documents.record_page(PAGE)
    assert look_up(documents, site, "api", "page", "of_a_plugin") == set()
    assert (site.requested, site.begun) == ([], 0)


def test_document_in_the_settings_takes_precedence() -> None:
    documents, site = Documents(override="123456"), Site(lambda _: SCRIPT)
    documents.record_page(PAGE)
    assert look_up(documents, site, "logged_out_api") == set()
    assert documents.current("logged_out_api") == ("123456", {})


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"root_query": None},
        {"root_query": {"doc_id": "x", "flags": [], "instead_of": "", "looked_at": 0}},
        {"root_query": {"doc_id": "123456", "flags": 1, "instead_of": "", "looked_at": 0}},
        {"root_query": {"doc_id": "123456", "flags": [], "instead_of": "9", "looked_at": "x"}},
        {"root_query": {"doc_id": "123456", "flags": [], "instead_of": "99999", "looked_at": 0}},
    ],
)
def test_damaged_or_outdated_file_is_ignored(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "documents.json"
    path.write_text(json.dumps(data))
    documents = Documents(memory=DocumentFile(path))
    assert documents.current("root_query")[0] == QUERIES["root_query"].doc_id
