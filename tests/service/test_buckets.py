"""Which bucket each route takes tokens from."""

import pytest

from tests.conftest import StartService
from tests.instagram import StandIn

LIMIT = {"RATE_LIMIT_MAX_REQUESTS": "50", "RATE_LIMIT_WINDOW_SECONDS": "36000"}
POST = {"url": "https://www.instagram.com/reel/reel-one/"}
WORK = [
    ("post", "/scrape"),
    ("post", "/jobs"),
    ("post", "/jobs/unknown/retry"),
    ("get", "/download"),
    ("get", "/download?url=x"),
    ("get", "/download?shortcodes=reel-one&archive=zip&link=x"),
    ("get", "/download/reel-one?h264=1"),
    ("put", "/login"),
    ("delete", "/login"),
    ("post", "/session"),
    ("delete", "/session"),
    ("put", "/posts/reel-one"),
    ("post", "/nowhere"),
]
READS = [
    ("get", "/jobs"),
    ("get", "/jobs/unknown"),
    ("get", "/jobs/unknown/events"),
    ("get", "/events"),
    ("delete", "/jobs/unknown"),
    ("delete", "/jobs/unknown?forget=1"),
    ("get", "/posts"),
    ("get", "/posts/reel-one"),
    ("put", "/posts/reel-one/keep"),
    ("delete", "/posts/reel-one/keep"),
    ("delete", "/posts/other-one"),
    ("post", "/posts/bulk"),
    ("get", "/storage"),
    ("get", "/login"),
    ("get", "/metrics"),
]
FILES = [
    ("get", "/media/reel-one/reel-one.mp4"),
    ("head", "/media/reel-one/reel-one.mp4"),
    ("get", "/download/reel-one"),
    ("get", "/download/reel-one?archive=zip"),
    ("get", "/download?shortcodes=reel-one&archive=zip"),
    ("get", "/download?shortcodes=other-one&archive=zip"),
]
FREE = [
    ("get", "/posts/reel-one/thumbnail"),
    ("head", "/posts/reel-one/thumbnail?v=1"),
    ("get", "/posts/other-one/thumbnail"),
    ("get", "/"),
    ("get", "/docs"),
    ("get", "/openapi.json"),
    ("get", "/health"),
    ("get", "/ready"),
]


@pytest.mark.parametrize("prefix", ["", "/under"])
async def test_each_route_takes_tokens_from_its_bucket(
    instagram: StandIn, start_service: StartService, prefix: str
) -> None:
    client = await start_service(API_KEY="s3cret", BASE_PATH=prefix, **LIMIT)
    client.session.headers["X-API-Key"] = "s3cret"
    assert (await client.post(f"{prefix}/scrape", json=POST)).status == 200
    for routes, left in ((WORK, 49), (READS, 500), (FILES, 500)):
        for number, (method, path) in enumerate(routes, start=1):
            async with client.request(method, prefix + path) as response:
                # No bucket gains a token during the test: a token takes at least 72 seconds.
                remaining = response.headers.get("RateLimit-Remaining")
                assert (method, path, remaining) == (method, path, str(left - number))
    for method, path in FREE:
        async with client.request(method, prefix + path) as response:
            assert "RateLimit-Remaining" not in response.headers, path
