"""``/jobs``: batches of posts, and their progress."""

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Client, StartService, both_modes, metric_of, until
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS, Service, wait_for

REEL = "https://www.instagram.com/reel/{}/"


@pytest.fixture(autouse=True)
def frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll often, so that progress is visible soon."""
    monkeypatch.setattr("scrapper.handlers.job_feeds._POLL_SECONDS", 0.02)
    monkeypatch.setattr("scrapper.jobs.runner._PROGRESS_SECONDS", 0.02)


async def submit(client: Client, *shortcodes: str) -> dict[str, Any]:
    body = {"urls": [REEL.format(shortcode) for shortcode in shortcodes]}
    async with client.post("/jobs", json=body) as response:
        job: dict[str, Any] = await response.json()
        assert (response.status, response.headers["Location"]) == (202, f"/jobs/{job['id']}")
        return job


async def get(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    async with client.get(f"/jobs/{job['id']}") as response:
        assert response.status == 200
        shown: dict[str, Any] = await response.json()
        return shown


async def finish(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (shown := await get(client, job))["state"] == "running":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return shown


async def events(
    client: Client,
    job: dict[str, Any],
    last: str = "",
    *,
    limit: int = 1_000_000,
    after_first: Callable[[], object] = lambda: None,
) -> list[dict[str, str]]:
    """Return the job's events until the stream ends, or the first *limit* events.

    *after_first* is called after the first event.
    """
    found: list[dict[str, str]] = [{}]
    headers = {"Last-Event-ID": last} if last else {}
    async with client.get(f"/jobs/{job['id']}/events", headers=headers) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        async for line in response.content:
            text = line.decode().rstrip("\r\n")
            if text and not text.startswith(":"):
                name, _, value = text.partition(": ")
                found[-1][name] = value
            elif found[-1]:
                if len(found) == 1:
                    after_first()
                if len(found) == limit:
                    return found
                found.append({})
    return [event for event in found if event]


@both_modes
async def test_each_url_of_a_batch_has_its_own_outcome(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    urls = [
        REEL.format("reel-batch"),
        "https://example.com/",
        REEL.format("notfound-batch"),
        "https://www.instagram.com/p/carousel-batch/",
    ]
    async with client.post("/jobs", json={"urls": urls}) as response:
        assert response.status == 202
        job = await response.json()
    assert [post["url"] for post in job["posts"]] == urls
    assert job["posts"][1] == {
        "url": "https://example.com/",
        "shortcode": None,
        "state": "failed",
        "bytes_done": 0,
        "bytes_total": None,
        "status": 400,
        "error": "Invalid URL format",
        "code": "invalid_url",
        "retry_after": None,
        "next_try_at": None,
        "waiting_since": None,
    }
    shown = await finish(client, job)
    assert shown["state"] == "done"
    assert [post["status"] for post in shown["posts"]] == [200, 400, 404, 200]
    async with client.post("/scrape", json={"url": urls[2]}) as response:
        assert shown["posts"][2]["error"] == (await response.json())["error"]
    reel = shown["posts"][0]
    assert reel["bytes_done"] == reel["bytes_total"] > len(instagram.bytes_of("reel-batch")[0])
    assert (media_root / "carousel-batch/carousel-batch_2.mp4").exists()


@both_modes
async def test_bad_links_do_not_affect_the_others_in_a_batch(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service()
    good = [REEL.format(f"reel-{number}") for number in range(40)]
    bad = [f"https://example.com/{number}" for number in range(5)]
    faults = ["notfound", "forbidden", "cut", "cdnhtml", "servererror"]
    urls = good[:20] + bad + [REEL.format(f"{fault}-50") for fault in faults] + good[20:]
    async with client.post("/jobs", json={"urls": urls}) as response:
        assert response.status == 202
        shown = await finish(client, await response.json())
    statuses = [post["status"] for post in shown["posts"]]
    assert statuses == [200] * 20 + [400] * 5 + [404, 403, 502, 502, 502] + [200] * 20
    assert all((post["status"] == 200) == (post["error"] is None) for post in shown["posts"])
    for number in range(40):
        [content] = instagram.bytes_of(f"reel-{number}")
        assert (media_root / f"reel-{number}/reel-{number}.mp4").read_bytes() == content


@both_modes
async def test_a_rate_limited_post_has_a_retry_after(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    shown = await finish(client, await submit(client, "limited-job"))
    assert (shown["posts"][0]["status"], shown["posts"][0]["retry_after"]) == (429, 17)


@both_modes
async def test_a_running_post_shows_its_progress_in_bytes(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    instagram.hold_media()
    job = await submit(client, "big-bytes")
    size = len(instagram.bytes_of("big-bytes")[0])
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (post := (await get(client, job))["posts"][0])["bytes_done"] == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (post["state"], post["bytes_total"]) == ("running", size)
    assert 0 < post["bytes_done"] < size
    instagram.release_media()
    assert (await finish(client, job))["posts"][0]["state"] == "done"


@both_modes
async def test_a_job_shares_its_download_with_scrape(
    instagram: StandIn, start_service: StartService, mode: dict[str, str]
) -> None:
    client = await start_service()
    instagram.hold()
    job = await submit(client, "reel-shared", "reel-shared")
    await until(lambda: instagram.requests("graphql") == 1)
    body = {"url": REEL.format("reel-shared")}
    scraping = asyncio.create_task(client.post("/scrape", json=body).__aenter__())
    joined = "scrape_flights_joined_total" if not mode else "scrape_queue_depth"
    await until(lambda: metric_of(client, joined) == 1)
    instagram.release()
    assert (await scraping).status == 200
    await finish(client, job)
    assert instagram.requests("graphql", "reel-shared") == 1


@both_modes
async def test_cancelling_a_job_spares_the_running_post(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="1")
    instagram.hold()
    job = await submit(client, "reel-runs", "reel-waits")
    await until(lambda: instagram.requests("graphql") == 1)
    async with client.delete(f"/jobs/{job['id']}") as response:
        assert response.status == 200
        shown = await response.json()
    assert [post["state"] for post in shown["posts"]] == ["running", "cancelled"]
    instagram.release()
    shown = await finish(client, job)
    assert shown["state"] == "cancelled"
    assert [post["state"] for post in shown["posts"]] == ["done", "cancelled"]
    assert instagram.requests("graphql", "reel-waits") == 0


async def test_an_invalid_body_is_rejected(start_service: StartService) -> None:
    client = await start_service()
    for body, error in (
        ("", "The body is not a JSON object"),
        ("[]", "The body is not a JSON object"),
        ("{}", "urls: Field required"),
        ('{"urls": "x"}', "urls: Input should be a valid array"),
        ('{"urls": []}', "urls: List should have at least 1 item"),
        ('{"urls": [1]}', "urls[0]: Input should be a valid string"),
        (json.dumps({"urls": ["x"] * 101}), "urls: List should have at most 100 items"),
    ):
        async with client.post("/jobs", data=body) as response:
            assert response.status == 400, body
            assert (await response.json())["error"].startswith(error)


async def test_a_hundred_long_urls_fit_into_a_body(
    start_service: StartService,
) -> None:
    client = await start_service()
    urls = ["https://www.instagram.com/p/removed-x/?" + "x" * 473] * 100
    async with client.post("/jobs", json={"urls": urls}) as response:
        assert response.status == 202
        assert all(post["shortcode"] for post in (await response.json())["posts"])
    async with client.post("/jobs", data=b" " * 100_000) as response:
        assert response.status == 413


@both_modes
@pytest.mark.parametrize("method", ["get", "delete"])
async def test_an_unknown_job_is_not_found(start_service: StartService, method: str) -> None:
    client = await start_service()
    async with client.request(method, "/jobs/unknown") as response:
        assert response.status == 404
    async with client.get("/jobs/unknown/events") as response:
        assert response.status == 404


@both_modes
async def test_events_show_the_progress_until_the_end(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    instagram.hold()
    job = await submit(client, "steady-events")
    seen = await events(client, job, after_first=instagram.release)
    posts = [json.loads(event["data"]) for event in seen if event["event"] == "post"]
    done = [post["bytes_done"] for post in posts]
    assert done == sorted(done)
    assert done[0] == 0
    assert len(set(done)) > 3
    assert done[-1] == posts[-1]["bytes_total"]
    assert all(one != other for one, other in pairwise(posts))
    assert [event["event"] for event in seen if event["event"] != "post"] == ["end"]
    assert json.loads(seen[-1]["data"]) == await get(client, job)


@both_modes
async def test_events_resume_after_the_last_event_id(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="1")
    instagram.hold()
    job = await submit(client, "reel-first", "reel-second")
    [first, second] = await events(client, job, limit=2)
    assert {json.loads(event["data"])["index"] for event in (first, second)} == {0, 1}
    instagram.release()
    await finish(client, job)
    rest = await events(client, job, second["id"])
    assert [json.loads(event["data"])["state"] for event in rest[:-1]] == ["done", "done"]
    ids = [int(event["id"].partition("-")[2]) for event in (first, second, *rest[:-1])]
    assert ids == sorted(set(ids))
    last = {"Last-Event-ID": rest[-2]["id"]}
    async with client.get(f"/jobs/{job['id']}/events", headers=last) as response:
        assert response.status == 204


@pytest.mark.parametrize("last", ["x", "ffffffff-1", "-", "\u00b9", "9" * 5000])
async def test_an_invalid_event_id_starts_from_the_beginning(
    instagram: StandIn, start_service: StartService, last: str
) -> None:
    client = await start_service()
    job = await submit(client, "reel-noid")
    await finish(client, job)
    assert [event["event"] for event in await events(client, job, last)] == ["post", "end"]


@both_modes
async def test_a_shutdown_ends_the_event_streams(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    instagram.hold()
    job = await submit(client, "reel-stop")
    stream = asyncio.create_task(events(client, job))
    await until(lambda: instagram.requests("graphql") == 1)
    closing = asyncio.create_task(client.server.close())
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert {event["event"] for event in await stream} == {"post"}
    instagram.release()
    await closing


@both_modes
async def test_a_client_that_disconnects_causes_no_error(
    instagram: StandIn, start_service: StartService, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start_service()
    instagram.hold_media()
    job = await submit(client, "big-left")
    async with client.get(f"/jobs/{job['id']}/events") as response:
        await response.content.readany()
    instagram.release_media()
    await finish(client, job)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@both_modes
async def test_the_number_of_jobs_is_bounded(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(MAX_JOBS="2")
    instagram.hold()
    oldest = await submit(client, "removed-old")
    running = await submit(client, "reel-bound")
    body = {"urls": [REEL.format("reel-more")]}
    async with client.post("/jobs", json=body) as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
    instagram.release()
    await finish(client, oldest)
    await finish(client, running)
    await submit(client, "reel-more")
    assert (await client.get(f"/jobs/{oldest['id']}")).status == 404
    assert (await get(client, running))["state"] == "done"


@both_modes
async def test_the_age_of_jobs_is_bounded(instagram: StandIn, start_service: StartService) -> None:
    client = await start_service(MAX_JOB_AGE_DAYS="0.00001")
    job = await submit(client, "reel-age")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await client.get(f"/jobs/{job['id']}")).status == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await client.get("/posts/reel-age")).status == 200


@both_modes
async def test_each_url_of_a_batch_costs_a_token(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(RATE_LIMIT_MAX_REQUESTS="5", RATE_LIMIT_WINDOW_SECONDS="3600")
    body = {"urls": [REEL.format("reel-token")] * 3}
    async with client.post("/jobs", json=body) as response:
        assert (response.status, response.headers["RateLimit-Remaining"]) == (202, "2")
    async with client.post("/jobs", json=body) as response:
        assert response.status == 429
        assert int(response.headers["Retry-After"]) > 0
    async with client.post("/jobs", json={"urls": ["x"] * 2}) as response:
        assert (response.status, response.headers["RateLimit-Remaining"]) == (202, "0")


async def test_reads_have_their_own_larger_bucket(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(RATE_LIMIT_MAX_REQUESTS="1", RATE_LIMIT_WINDOW_SECONDS="3600")
    job = await submit(client, "reel-read")
    for left in range(9, -1, -1):
        async with client.get(f"/jobs/{job['id']}") as response:
            assert (response.status, response.headers["RateLimit-Remaining"]) == (200, str(left))
    assert (await client.get("/posts")).status == 429
    assert (await client.get("/")).status == 200


@both_modes
async def test_a_batch_larger_than_the_bucket_empties_it(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(RATE_LIMIT_MAX_REQUESTS="5", RATE_LIMIT_WINDOW_SECONDS="3600")
    async with client.post("/jobs", json={"urls": [REEL.format("reel-all")] * 9}) as response:
        assert (response.status, response.headers["RateLimit-Remaining"]) == (202, "0")


async def test_a_killed_service_resumes_its_jobs(instagram: StandIn, tmp_path: Path) -> None:
    urls = [REEL.format(f"reel-killed-{number}") for number in range(12)]
    environment = {**instagram.environment, "SCRAPE_CONCURRENCY": "2"}

    def batch() -> str:
        with Service(tmp_path, environment) as service:
            job = service.post("/jobs", {"urls": [*urls, "https://example.com/"]}).json()
            wait_for(lambda: instagram.requests("graphql") >= 5)
            service.kill()
            return str(job["id"])

    def after(job: str) -> dict[str, Any]:
        with Service(tmp_path, environment) as service:
            wait_for(lambda: service.get(f"/jobs/{job}").json()["state"] != "running")
            return dict(service.get(f"/jobs/{job}").json())

    shown = await asyncio.to_thread(after, await asyncio.to_thread(batch))
    assert [post["status"] for post in shown["posts"]] == [200] * 12 + [400]
    for number in range(12):
        [content] = instagram.bytes_of(f"reel-killed-{number}")
        path = tmp_path / f"reel-killed-{number}/reel-killed-{number}.mp4"
        assert path.read_bytes() == content


async def test_a_client_can_follow_at_most_twenty_jobs(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    instagram.hold()
    job = await submit(client, "reel-followed")
    path = f"/jobs/{job['id']}/events"
    streams = [await client.get(path) for _ in range(20)]
    assert {stream.status for stream in streams} == {200}
    async with client.get(path) as response:
        assert (response.status, (await response.json())["code"]) == (429, "too_many_requests")
        assert int(response.headers["Retry-After"]) > 0
    instagram.release()
    ends = [await stream.text() for stream in streams]
    assert all(text.count("event: end") == 1 for text in ends)
    async with client.get(path) as response:
        assert response.status == 200


async def test_many_streams_share_one_poller_of_their_job(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    instagram.hold()
    job = await submit(client, "reel-shared")
    streams = [await client.get(f"/jobs/{job['id']}/events") for _ in range(15)]
    for stream in streams:
        await stream.content.readuntil(b"\r\n\r\n")
    pollers = [task for task in asyncio.all_tasks() if task.get_name().startswith("events of")]
    assert len(pollers) == 1
    instagram.release()
    for stream in streams:
        assert "event: end" in await stream.text()


@both_modes
async def test_one_client_cannot_use_up_all_jobs(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(MAX_JOBS="8", TRUSTED_PROXIES="127.0.0.0/8")
    instagram.hold()
    body = {"urls": [REEL.format("reel-share")]}

    async def status(address: str) -> int:
        headers = {"X-Forwarded-For": address}
        async with client.post("/jobs", json=body, headers=headers) as response:
            return response.status

    assert [await status("192.0.2.1") for _ in range(3)] == [202, 202, 429]
    assert [await status("192.0.2.2") for _ in range(3)] == [202, 202, 429]
    instagram.release()
    while await status("192.0.2.1") == 429:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def listed(client: Client, query: str = "", **headers: str) -> list[str]:
    """Return the IDs of all listed jobs, page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        async with client.get(f"/jobs?{query}{cursor}", headers=headers) as response:
            assert response.status == 200
            page = await response.json()
        found += [job["id"] for job in page["jobs"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


@both_modes
async def test_jobs_are_listed_newest_first_in_pages(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    jobs = [await submit(client, f"removed-{number}") for number in range(5)]
    for job in jobs:
        await finish(client, job)
    ids = [job["id"] for job in reversed(jobs)]
    assert await listed(client) == await listed(client, "limit=2") == ids
    assert await listed(client, "state=done") == ids
    assert await listed(client, "state=running") == []
    async with client.get("/jobs?limit=1") as response:
        assert (await response.json())["jobs"] == [await get(client, jobs[-1])]


async def test_invalid_list_parameters_are_rejected(start_service: StartService) -> None:
    client = await start_service()
    for query in ("limit=0", "limit=101", "limit=x", "state=failed", "state=", "cursor=x"):
        async with client.get(f"/jobs?{query}") as response:
            code = (await response.json())["code"]
            assert (response.status, code) == (400, "invalid_parameter"), query


@both_modes
async def test_a_finished_job_can_be_removed_from_the_list(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    instagram.hold()
    job = await submit(client, "reel-forgotten")
    path = f"/jobs/{job['id']}"
    async with client.delete(f"{path}?forget=1") as response:
        assert (response.status, (await response.json())["code"]) == (409, "job_running")
    instagram.release()
    await finish(client, job)
    assert (await client.delete(f"{path}?forget=2")).status == 400
    assert (await client.delete(f"{path}?forget=1")).status == 204
    assert await listed(client) == []
    for method in ("get", "delete"):
        assert (await client.request(method, path)).status == 404
    assert (await client.delete(f"{path}?forget=1")).status == 404
    assert (await client.post(f"{path}/retry")).status == 404
    assert (await client.get("/posts/reel-forgotten")).status == 200


@both_modes
async def test_jobs_of_another_key_are_hidden(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    # Every key in the file is a named key, even one called "default".
    (tmp_path / "keys").write_text("default:anna-s-key\nbert:bert-s-key\n")
    client = await start_service(API_KEYS_FILE=str(tmp_path / "keys"), API_KEY="the-key")
    anna, bert, every = ({"X-API-Key": key} for key in ("anna-s-key", "bert-s-key", "the-key"))
    body = {"urls": [REEL.format("removed-anna")]}
    async with client.post("/jobs", json=body, headers=anna) as response:
        path = response.headers["Location"]
    foreign = [
        ("get", path),
        ("get", f"{path}/events"),
        ("post", f"{path}/retry"),
        ("delete", path),
        ("delete", f"{path}?forget=1"),
    ]
    for method, url in foreign:
        async with client.request(method, url, headers=bert) as response:
            assert (response.status, (await response.json())["code"]) == (404, "not_found")
    assert await listed(client, **bert) == []
    for headers in (anna, every):
        assert await listed(client, **headers) == [path.removeprefix("/jobs/")]
        assert (await client.get(f"{path}/events", headers=headers)).status == 200
        assert (await client.post(f"{path}/retry", headers=headers)).status == 202


async def test_each_user_behind_a_proxy_has_separate_jobs(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(
        API_KEY="the-key", AUTH_PROXY_HEADER="Remote-User", AUTH_PROXIES="127.0.0.1"
    )
    anna, bert = {"Remote-User": "anna"}, {"Remote-User": "bert"}
    body = {"urls": [REEL.format("removed-anna")]}
    async with client.post("/jobs", json=body, headers=anna) as response:
        path = response.headers["Location"]
    ids = [path.removeprefix("/jobs/")]
    assert await listed(client, **anna) == ids
    assert await listed(client, **bert) == []
    assert (await client.get(path, headers=bert)).status == 404
    assert await listed(client, **{"X-API-Key": "the-key"}) == ids


async def test_retrying_another_key_s_job_costs_one_token(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("anna:anna-s-key:50\nbert:bert-s-key:50\n")
    limit = {"RATE_LIMIT_MAX_REQUESTS": "50", "RATE_LIMIT_WINDOW_SECONDS": "36000"}
    client = await start_service(API_KEYS_FILE=str(tmp_path / "keys"), **limit)
    anna, bert = {"X-API-Key": "anna-s-key"}, {"X-API-Key": "bert-s-key"}
    body = {"urls": ["https://example.com/"] * 9}
    async with client.post("/jobs", json=body, headers=anna) as response:
        path = response.headers["Location"]
    async with client.post(f"{path}/retry", headers=bert) as response:
        assert (response.status, response.headers["RateLimit-Remaining"]) == (404, "49")
