"""Any request body is either valid or rejected with a clear error."""

import json
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from scrapper.errors import InvalidURL, UnsupportedLink
from scrapper.handlers.refusals import InvalidBody
from scrapper.handlers.request_bodies import JobRequest, ScrapeRequest, parse_body
from scrapper.jobs.model import new_job
from scrapper.links import read_link

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {},
        optional={
            "url": JSON | st.just("https://www.instagram.com/reel/removed-x/"),
            "urls": JSON | st.lists(st.text(), max_size=3),
            "refresh": JSON,
        },
    ).map(lambda value: json.dumps(value).encode()),
)
"""Bodies of a scrape or a job, most of them invalid."""


@settings(max_examples=20)
@given(bodies=st.lists(BODIES, min_size=50, max_size=50))
def test_any_body_is_valid_or_rejected(bodies: list[bytes]) -> None:
    for body in bodies:
        with suppress(InvalidBody, InvalidURL, UnsupportedLink):
            read_link(parse_body(body, ScrapeRequest).url, max_length=512)
        with suppress(InvalidBody):
            urls = parse_body(body, JobRequest).urls
            assert len(new_job(urls, max_url_length=512).posts) == len(urls)
