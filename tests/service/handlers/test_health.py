import asyncio

from tests.conftest import StartService, both_modes, until
from tests.instagram import StandIn
from tests.service.scraping.test_scraper import find_working_source

LEARNED = {
    "sources": ["api", "root_query", "logged_out_api", "page", "embed"],
    "allowed": 0,
    "ceiling": 0,
}
HEALTHY = {
    "media_folder": True,
    "disk_space": True,
    "instagram": {"logged_out": LEARNED},
    "login": "none",
}
URL = "https://www.instagram.com/reel/reel-{}/"


async def test_health_needs_no_key_and_has_no_limit(start_service: StartService) -> None:
    client = await start_service(API_KEY="s3cret", RATE_LIMIT_MAX_REQUESTS="1")
    for _ in range(5):
        async with client.get("/health") as response:
            assert (response.status, await response.text()) == (200, "OK")


async def test_health_responds_while_every_thread_hangs(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="2", SCRAPE_QUEUE_LIMIT="1")
    await find_working_source(client, instagram)
    instagram.hold()
    hanging = [
        asyncio.create_task(client.post("/scrape", json={"url": URL.format(number)}))
        for number in range(3)
    ]
    await until(lambda: instagram.requests("graphql") == 2)
    for _ in range(20):
        assert (await client.get("/health")).status == 200
    instagram.release()
    assert {response.status for response in await asyncio.gather(*hanging)} == {200}


@both_modes
async def test_ready_reports_each_check(
    instagram: StandIn, start_service: StartService, mode: dict[str, str]
) -> None:
    healthy = {**HEALTHY, "redis": True} if mode else HEALTHY
    client = await start_service(API_KEY="s3cret", SCRAPE_CONCURRENCY="1", SCRAPE_QUEUE_LIMIT="0")
    async with client.get("/ready") as response:
        assert (response.status, await response.json()) == (
            200,
            {**healthy, "capacity": True},
        )
    instagram.hold()
    headers = {"X-API-Key": "s3cret"}
    hanging = asyncio.create_task(
        client.post("/scrape", json={"url": URL.format("ready")}, headers=headers)
    )
    await until(lambda: instagram.requests("graphql") == 1)
    async with client.get("/ready") as response:
        assert (response.status, await response.json()) == (
            503,
            {**healthy, "capacity": False},
        )
    instagram.release()
    await hanging


async def test_metrics_ignore_types_with_an_invalid_version(start_service: StartService) -> None:
    client = await start_service()
    plain, openmetrics = "text/plain", "application/openmetrics-text"
    for accept, expected in (
        ("*/*", (plain, "0.0.4")),
        (f"{plain}; version=1.0.0", (plain, "1.0.0")),
        (f"{plain}; version=x", (plain, "0.0.4")),
        (f"{openmetrics}; version=1.0.0", (openmetrics, "1.0.0")),
        (f'{openmetrics};version="1.0.0"', (openmetrics, "1.0.0")),
        (f"{openmetrics}; version=1.0.0a", (plain, "0.0.4")),
        (f"{openmetrics}; version=2.é", (plain, "0.0.4")),
        (f"{openmetrics}; version={'1' * 5000}", (plain, "0.0.4")),
        (f"{openmetrics}; version=x, {plain}; version=1.0.0; q=0.5", (plain, "1.0.0")),
    ):
        async with client.get("/metrics", headers={"Accept": accept}) as response:
            assert response.status == 200, accept
            version = response.headers["Content-Type"].split("; version=")[1].partition(";")[0]
            assert (response.content_type, version) == expected, accept


async def test_metrics_are_compressed_only_if_gzip_is_accepted(
    start_service: StartService,
) -> None:
    client = await start_service()
    for accepted, coding in (
        ("gzip", "gzip"),
        ("br, GZIP;q=0.5", "gzip"),
        ("deflate, gzip;q=1.0", "gzip"),
        ("identity", None),
        ("gzip;q=0", None),
        ("deflate;q=0, gzip; q=0.000", None),
        ("", None),
    ):
        async with client.get("/metrics", headers={"Accept-Encoding": accepted}) as response:
            assert response.status == 200
            assert response.headers.get("Content-Encoding") == coding, accepted
            assert "http_internal_errors_total" in await response.text()
