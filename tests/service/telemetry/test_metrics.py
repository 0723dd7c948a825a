"""What ``/metrics`` shows."""

import asyncio
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Client, StartService, both_modes, metric_of, until
from tests.instagram import StandIn
from tests.service.scraping.test_scraper import find_working_source

URL = "https://www.instagram.com/reel/{}/"


async def figures(client: Client, **headers: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Return all samples, by name and by the values of their labels."""
    async with client.get("/metrics", headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        families = text_string_to_metric_families(await response.text())
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in families:
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in sorted(sample.labels))
            samples.setdefault(sample.name, {})[labels] = sample.value
    return samples


async def scrape(client: Client, shortcode: str) -> int:
    async with client.post("/scrape", json={"url": URL.format(shortcode)}) as response:
        return response.status


async def test_requests_are_counted_by_method_route_and_status(start_service: StartService) -> None:
    client = await start_service(RATE_LIMIT_MAX_REQUESTS="2")
    for path in ("/health", "/posts/reel-one", "/posts/reel-two", "/nowhere", "/nowhere/else"):
        await client.get(path)
    await client.request("PROPFIND", "/health")
    await client.post("/scrape", data="nonsense")
    count = (await figures(client))["http_request_duration_seconds_count"]
    assert count == {
        ("GET", "/health", "200"): 1,
        ("GET", "/posts/{shortcode}", "404"): 2,
        ("GET", "none", "404"): 2,
        ("other", "none", "405"): 1,
        ("POST", "/scrape", "429"): 1,
    }


async def test_scrapes_are_counted_by_outcome(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    for shortcode in ("reel-a", "reel-a", "reel-b", "removed-a", "limited-a"):
        await scrape(client, shortcode)
    known = await figures(client)
    assert known["scrape_fetch_duration_seconds_count"] == {
        ("ok",): 2,
        ("PostNotFound",): 1,
        ("RateLimited",): 1,
        # These series exist from the start, for alerts.
        ("ChallengeRequired",): 0,
        ("InstagramChanged",): 0,
    }
    assert known["scrape_cache_hits_total"][()] == 1
    size = sum(len(content) for content in instagram.bytes_of("reel-a"))
    assert known["scrape_downloaded_bytes_total"][()] > 2 * size


async def test_waiting_posts_and_joined_flights_are_counted(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="2")
    await find_working_source(client, instagram)
    instagram.hold()
    codes = ["reel-1", "reel-2", "reel-3", "reel-3"]
    tasks = [asyncio.create_task(scrape(client, f"{code}-queue")) for code in codes]
    await until(lambda: instagram.requests("graphql") == 2)
    await until(lambda: metric_of(client, "scrape_flights_joined_total") == 1)
    known = await figures(client)
    assert known["scrape_busy_threads"][()] == 2
    assert known["scrape_queue_depth"][()] == 1
    instagram.release()
    assert await asyncio.gather(*tasks) == [200] * 4
    known = await figures(client)
    assert (known["scrape_busy_threads"][()], known["scrape_queue_depth"][()]) == (0, 0)


@both_modes
async def test_the_cool_down_has_a_metric(instagram: StandIn, start_service: StartService) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="60")
    assert (await figures(client))["scrape_cooldown_active"][()] == 0
    assert await scrape(client, "limited-x") == 429
    assert (await figures(client))["scrape_cooldown_active"][()] == 1


async def test_sweeps_and_stored_posts_have_metrics(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.02")
    assert await scrape(client, "reel-kept") == 200
    await until(lambda: metric_of(client, "library_posts") == 1)
    await until(lambda: metric_of(client, "library_sweeps_total", outcome="ok") >= 2)
    known = await figures(client)
    stored = await asyncio.to_thread(lambda: list((media_root / "reel-kept").iterdir()))
    assert known["library_bytes"][()] == sum(path.stat().st_size for path in stored)
    assert known["library_disk_free_bytes"][()] > 0


async def test_swept_posts_are_counted(instagram: StandIn, start_service: StartService) -> None:
    client = await start_service(MEDIA_CLEANUP_INTERVAL_SECONDS="0.02", MAX_MEDIA_AGE_DAYS="1e-9")
    assert await scrape(client, "reel-gone") == 200
    await until(lambda: metric_of(client, "library_swept_posts_total") == 1)


@both_modes
async def test_rejections_are_counted_by_bucket(start_service: StartService) -> None:
    client = await start_service(RATE_LIMIT_MAX_REQUESTS="1")
    for _ in range(3):
        await client.post("/scrape", data="{}")
    assert (await figures(client))["rate_limit_rejections_total"] == {
        ("work",): 2,
        ("reads",): 0,
        ("files",): 0,
    }


async def test_metrics_need_the_key(start_service: StartService) -> None:
    client = await start_service(API_KEY="s3cret")
    async with client.get("/metrics") as response:
        assert response.status == 401
    assert await figures(client, **{"X-API-Key": "s3cret"})


async def test_client_input_never_becomes_a_label(start_service: StartService) -> None:
    client = await start_service()
    before = await figures(client)
    for number in range(50):
        await client.get(f"/secret-{number}")
        await client.get(f"/posts/secret-{number}", headers={"X-Request-ID": f"secret-{number}"})
        await client.request(f"SECRET{number}", "/scrape")
    async with client.get("/metrics") as response:
        text = await response.text()
    assert "secret" not in text.lower()
    assert text.count("http_request_duration_seconds_count{") <= len(before) + 4
