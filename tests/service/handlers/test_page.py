"""The files of the web page."""

from scrapper.handlers.page import PAGE_FILES
from tests.conftest import StartService


async def test_page_files_need_no_key_and_are_cached(start_service: StartService) -> None:
    client = await start_service(API_KEY="s3cret", RATE_LIMIT_MAX_REQUESTS="1")
    for path in PAGE_FILES:
        for _ in range(3):
            async with client.get(path) as response:
                assert response.status == 200, path
                assert "default-src 'none'" in response.headers["Content-Security-Policy"], path
                assert "unsafe" not in response.headers["Content-Security-Policy"], path
                etag = response.headers["ETag"]
        async with client.get(path, headers={"If-None-Match": etag}) as response:
            assert response.status == 304, path
