"""Jobs that reach a limit: their posts wait, resume automatically, and can be retried."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Client, StartService, both_modes
from tests.instagram import Scenario, StandIn
from tests.process import PATIENCE_SECONDS, Service, wait_for
from tests.service.handlers.test_jobs import REEL, finish, get, submit
from tests.service.instagram.test_sources import session_file

PATIENT = {"JOB_PATIENCE_SECONDS": "3600"}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry a post soon after it has reached a limit."""
    monkeypatch.setattr("scrapper.jobs.runner._SHORTEST_PAUSE", 0.1)


async def until_all(client: Client, job: dict[str, Any], state: str) -> list[dict[str, Any]]:
    """Wait until all posts of the job are in *state*, and return them."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            posts: list[dict[str, Any]] = (await get(client, job))["posts"]
            if all(post["state"] == state for post in posts):
                return posts
            await asyncio.sleep(0.02)


def refuse_all(instagram: StandIn) -> None:
    for source in ("api", "root", "web", "page", "embed"):
        instagram.override_answer(source, "limitedbare")


@both_modes
async def test_posts_beyond_the_pace_wait_and_resume_automatically(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(INSTAGRAM_MAX_QUERIES="3", INSTAGRAM_WINDOW_SECONDS="2", **PATIENT)
    job = await submit(client, *(f"reel-paced-{number}" for number in range(6)))
    assert {post["state"] for post in job["posts"]} == {"queued"}
    seen = set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (shown := await get(client, job))["state"] == "running":
            for post in shown["posts"]:
                seen.add(post["state"])
                assert (post["next_try_at"] is not None) == (post["state"] == "waiting")
                if post["state"] == "waiting":
                    assert datetime.fromisoformat(post["next_try_at"]).tzinfo is not None
            await asyncio.sleep(0.02)
    assert "waiting" in seen
    assert [post["status"] for post in shown["posts"]] == [200] * 6


@both_modes
async def test_private_posts_wait_while_the_account_is_paused(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    instagram.override_answer("info", "toomany")
    client = await start_service(**session_file(tmp_path, "alive"), **PATIENT)
    job = await submit(client, *(f"private-resting-{number}" for number in range(4)))
    await until_all(client, job, "waiting")
    await until_all(client, await submit(client, "private-resting-later"), "waiting")


@both_modes
async def test_posts_survive_a_refusal_during_a_batch(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="0.5", **PATIENT)
    refuse_all(instagram)
    job = await submit(client, *(f"reel-refused-{number}" for number in range(20)))
    await until_all(client, job, "waiting")
    instagram.reset()
    shown = await finish(client, job)
    assert [(post["state"], post["status"]) for post in shown["posts"]] == [("done", 200)] * 20


@both_modes
async def test_a_post_fails_once_its_patience_is_exhausted(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="300", JOB_PATIENCE_SECONDS="60")
    refuse_all(instagram)
    [post] = (await finish(client, await submit(client, "reel-impatient")))["posts"]
    assert (post["state"], post["status"]) == ("failed", 429)
    assert (post["code"], post["next_try_at"]) == ("instagram_rate_limited", None)


@both_modes
async def test_a_stored_post_does_not_wait_for_others(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="300", **PATIENT)
    await finish(client, await submit(client, "reel-at-hand"))
    refuse_all(instagram)
    job = await submit(client, "reel-behind-1", "reel-behind-2")
    await until_all(client, job, "waiting")
    [post] = (await finish(client, await submit(client, "reel-at-hand")))["posts"]
    assert post["status"] == 200
    later = await submit(client, "reel-behind-3")
    requests = instagram.requests()
    await until_all(client, later, "waiting")
    assert instagram.requests() == requests


@both_modes
async def test_the_oldest_job_goes_first(instagram: StandIn, start_service: StartService) -> None:
    client = await start_service(
        INSTAGRAM_COOLDOWN_SECONDS="0.5", SCRAPE_CONCURRENCY="1", **PATIENT
    )
    refuse_all(instagram)
    older = await submit(client, *(f"reel-older-{number}" for number in range(5)))
    newer = await submit(client, *(f"reel-newer-{number}" for number in range(5)))
    await until_all(client, older, "waiting")
    await until_all(client, newer, "waiting")
    instagram.reset()
    async with asyncio.timeout(PATIENCE_SECONDS):
        newest: list[dict[str, Any]] = []
        while not any(post["state"] == "done" for post in newest):
            await asyncio.sleep(0.02)
            newest = (await get(client, newer))["posts"]
    # Only one post is downloaded at a time, so all posts of the older job came first.
    assert {post["state"] for post in (await get(client, older))["posts"]} == {"done"}
    assert (await finish(client, newer))["state"] == "done"


@both_modes
async def test_waiting_posts_can_be_cancelled_and_retried(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="0.5", **PATIENT)
    refuse_all(instagram)
    job = await submit(client, "reel-given-up", "notfound-given-up")
    await until_all(client, job, "waiting")
    state = ""
    async with asyncio.timeout(PATIENCE_SECONDS):
        # One of the posts may be in the middle of a retry.
        while state != "cancelled":
            async with client.delete(f"/jobs/{job['id']}") as response:
                state = (await response.json())["state"]
    instagram.reset()
    async with client.post(f"/jobs/{job['id']}/retry") as response:
        assert (response.status, (await response.json())["state"]) == (202, "running")
    shown = await finish(client, job)
    assert [post["status"] for post in shown["posts"]] == [200, 404]
    # A post that is done is not retried.
    async with client.post(f"/jobs/{job['id']}/retry") as response:
        done, _ = (await response.json())["posts"]
        assert done["state"] == "done"
    assert [post["status"] for post in (await finish(client, job))["posts"]] == [200, 404]


@both_modes
async def test_retrying_an_unknown_job_is_a_404(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    async with client.post("/jobs/unknown/retry") as response:
        assert (response.status, (await response.json())["code"]) == (404, "not_found")


@both_modes
async def test_a_retry_costs_a_token_for_each_post(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(RATE_LIMIT_MAX_REQUESTS="10", RATE_LIMIT_WINDOW_SECONDS="3600")
    job = await finish(client, await submit(client, *(f"notfound-{n}" for n in range(4))))
    async with client.post(f"/jobs/{job['id']}/retry") as response:
        assert response.headers["RateLimit-Remaining"] == "2"
    await finish(client, job)
    async with client.post(f"/jobs/{job['id']}/retry") as response:
        assert response.status == 429


@both_modes
async def test_a_retried_job_counts_as_unfinished(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(MAX_JOBS="4", INSTAGRAM_COOLDOWN_SECONDS="300", **PATIENT)
    ended = await finish(client, await submit(client, "notfound-ended"))
    refuse_all(instagram)
    await until_all(client, await submit(client, "reel-share"), "waiting")
    async with client.post(f"/jobs/{ended['id']}/retry") as response:
        assert (response.status, (await response.json())["code"]) == (429, "too_many_requests")


def test_a_long_batch_survives_a_refusal_and_a_kill(instagram: StandIn, tmp_path: Path) -> None:
    done, refused = 30, 30
    environment = {
        **instagram.environment,
        "INSTAGRAM_WINDOW_SECONDS": "0.2",
        "INSTAGRAM_COOLDOWN_SECONDS": "1",
        "MAX_JSON_BODY_BYTES": "65536",
    }
    shortcodes = [f"reel-{number}" for number in range(done)]
    shortcodes += [f"late-{number}" for number in range(refused)]
    batches = [shortcodes[first : first + 20] for first in range(0, len(shortcodes), 20)]
    instagram.set_scenario("late", Scenario("", api="limitedbare", page="limitedbare"))

    def posts(service: Service, jobs: list[str]) -> list[dict[str, Any]]:
        return [post for job in jobs for post in service.get(f"/jobs/{job}").json()["posts"]]

    with Service(tmp_path, environment) as service:
        bodies = [{"urls": list(map(REEL.format, batch))} for batch in batches]
        jobs = [service.post("/jobs", body).json()["id"] for body in bodies]
        wait_for(lambda: any(post["state"] == "waiting" for post in posts(service, jobs)))
        service.kill()
    assert instagram.requests("media") > 20
    instagram.set_scenario("late", Scenario(""))
    with Service(tmp_path, environment) as service:
        wait_for(lambda: all(post["state"] == "done" for post in posts(service, jobs)))
        assert {post["status"] for post in posts(service, jobs)} == {200}
        assert {post["shortcode"] for post in posts(service, jobs)} == set(shortcodes)
