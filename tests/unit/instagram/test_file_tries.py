"""How often each URL of a file is tried."""

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

import pytest

from scrapper.errors import MediaTooLarge, ScrapeError
from scrapper.instagram.files.fetch import Fetched, Wanted
from scrapper.instagram.files.post import PostDownload, _File
from scrapper.instagram.files.verdict import Outcome
from scrapper.instagram.media import Candidate, Description, Item
from scrapper.library.post import Details, Fetch


def described(*urls: str, unreliable: bool = False) -> Description:
    candidates = tuple(Candidate(url, None, None, unreliable=unreliable) for url in urls)
    return Description(False, (Item("image", candidates),), "", None, None, Details())


def attempts(descriptions: Sequence[Description], outcome: Outcome) -> Counter[str]:
    """Count the attempts per URL if every attempt has *outcome*.

    Each search returns the next of *descriptions*.
    """
    remaining, tried = list(descriptions), Counter[str]()

    def begin(wanted: Wanted) -> Future[Fetched]:
        tried[wanted.candidate.url] += 1
        future = Future[Fetched]()
        future.set_result(Fetched(outcome))
        return future

    fetch = Fetch("abcde", "url", time.monotonic() + 60)
    with pytest.raises(ScrapeError):
        PostDownload(lambda *_: remaining.pop(0), begin, fetch).post()
    assert not remaining
    return tried


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrapper.instagram.files.post._RETRY_SECONDS", 0)


@pytest.mark.parametrize("outcome", [Outcome.UNREACHABLE, Outcome.FAILED, Outcome.CUT])
def test_a_url_is_tried_twice_across_all_descriptions(outcome: Outcome) -> None:
    same = described("a", "b")
    assert attempts([same, same, described("b", "c")], outcome) == {"a": 2, "b": 2, "c": 2}


def test_a_refused_url_is_tried_at_most_twice() -> None:
    assert attempts([described("a")] * 3, Outcome.GONE) == {"a": 2}


def test_an_unreliable_url_is_tried_once() -> None:
    assert attempts([described("a", unreliable=True)] * 3, Outcome.FORBIDDEN) == {"a": 1}


def test_at_most_five_candidates_are_tried() -> None:
    assert attempts([described(*"abcdefg")] * 3, Outcome.CUT) == dict.fromkeys("abcde", 2)


def tries_if_too_large(description: Description, results: Mapping[str, Fetched]) -> Counter[str]:
    """Count the attempts for each URL, given the *results* by URL; the post must be too large."""
    tried = Counter[str]()

    def begin(wanted: Wanted) -> Future[Fetched]:
        tried[wanted.candidate.url] += 1
        future = Future[Fetched]()
        future.set_result(results.get(wanted.candidate.url, Fetched(Outcome.GONE)))
        return future

    fetch = Fetch("abcde", "url", time.monotonic() + 60)
    with pytest.raises(MediaTooLarge) as failed:
        PostDownload(lambda *_: description, begin, fetch).post()
    assert failed.value.smallest == 3
    return tried


def test_too_large_candidates_do_not_count_towards_the_five() -> None:
    sizes = {url: 10 - number for number, url in enumerate("abcdefgh")}
    too_large = {url: Fetched(Outcome.TOO_LARGE, size=size) for url, size in sizes.items()}
    assert tries_if_too_large(described(*"abcdefgh"), too_large) == dict.fromkeys("abcdefgh", 1)


def test_at_most_thirty_too_large_candidates_are_tried() -> None:
    urls = [str(number) for number in range(100)]
    too_large = {url: Fetched(Outcome.TOO_LARGE, size=3) for url in urls}
    assert tries_if_too_large(described(*urls), too_large).total() == 30


def test_a_file_without_candidates_has_no_steps_left() -> None:
    [item] = described("a").items
    assert item is not None
    file = _File(0, "abcde", item, deque(), 0, outcome=Outcome.TOO_LARGE)
    assert file.possible(deque(), 0) == set()
