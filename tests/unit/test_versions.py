"""Conditional requests and range requests for a version of a file."""

from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from scrapper.handlers.versions import Version

VERSION = Version("v1", 1_800_000_000, 100)
LATER = "Sat, 31 Dec 2129 23:59:59 GMT"
EARLIER = "Thu, 01 Jan 1970 00:00:00 GMT"


def requested(*headers: tuple[str, str]) -> web.Request:
    return make_mocked_request("GET", "/", CIMultiDict(headers))


@pytest.mark.parametrize(
    ("lines", "strong", "weak"),
    [
        (['"v1"'], True, True),
        (['W/"v1"'], False, True),
        (['"v2"'], False, False),
        (['"v2", "v1"'], True, True),
        (['"v2"', '"v1"'], True, True),
        (['W/"v1"', '"v1"'], True, True),
        (['"v2",,"v1"'], True, True),
        ([' , "v1" ,'], True, True),
        (['"a,b","v1"'], True, True),
        (["*"], True, True),
        (['"*"'], False, False),
        (['W/"*"'], False, False),
        (["v1"], False, False),
    ],
)
def test_lists_of_tags_decide_about_the_version(lines: list[str], strong: bool, weak: bool) -> None:
    # The dates would say the opposite, but lists take precedence.
    if_match = requested(("If-Unmodified-Since", EARLIER), *(("If-Match", line) for line in lines))
    if strong:
        VERSION.check_required(if_match)
    else:
        with pytest.raises(web.HTTPPreconditionFailed):
            VERSION.check_required(if_match)
    dates = () if weak else (("If-Modified-Since", LATER),)
    if_none_match = requested(*dates, *(("If-None-Match", line) for line in lines))
    assert VERSION.is_known(if_none_match) is weak


def test_an_empty_list_of_tags_is_ignored() -> None:
    request = requested(("If-Match", ""), ("If-None-Match", ""), ("If-Modified-Since", LATER))
    VERSION.check_required(request)
    assert VERSION.is_known(request)


@pytest.mark.parametrize(
    ("requested_range", "size", "is_satisfiable"),
    [
        ("bytes=0-", 100, True),
        ("bytes=99-200", 100, True),
        ("bytes=100-", 100, False),
        ("bytes=-5", 100, True),
        ("bytes=-500", 100, True),
        ("bytes=2-1", 100, False),
        ("bytes=0-", 0, False),
        ("bytes=-5", 0, False),
        ("items=0-1", 0, True),
        ("bytes=0-1,3-4", 0, True),
    ],
)
def test_a_range_outside_the_file_is_refused(
    requested_range: str, size: int, is_satisfiable: bool
) -> None:
    version, request = replace(VERSION, size=size), requested(("Range", requested_range))
    if is_satisfiable:
        version.check_range(request)
    else:
        with pytest.raises(web.HTTPRequestRangeNotSatisfiable) as refused:
            version.check_range(request)
        assert refused.value.headers["Content-Range"] == f"bytes */{size}"
