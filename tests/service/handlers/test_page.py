"""The page's files, as they are sent."""

import pytest

from scrapper.handlers.page import PAGE_FILES
from tests.conftest import StartService


@pytest.mark.parametrize("path", PAGE_FILES)
async def test_page_files_need_no_key_and_are_sent_once(
    start_service: StartService, path: str
) -> None:
    client = await start_service(API_KEY="s3cret", RATE_LIMIT_MAX_REQUESTS="1")
    for _ in range(3):
        async with client.get(path) as response:
            assert response.status == 200
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert "unsafe" not in response.headers["Content-Security-Policy"]
            etag = response.headers["ETag"]
    async with client.get(path, headers={"If-None-Match": etag}) as response:
        assert response.status == 304
