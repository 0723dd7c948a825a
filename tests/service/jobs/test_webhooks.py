"""Webhooks are signed, delivered at least once, and sent only to allowed hosts."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from tests.conftest import Client, StartService, both_modes, metric_of, until
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS, Service, wait_for
from tests.service.handlers.test_jobs import REEL, finish

SECRET = "whsec_" + "c2VjcmV0" * 6
ALLOWED = {"WEBHOOK_HOSTS": "localhost, 127.0.0.0/8", "WEBHOOK_SECRET": SECRET}


@pytest.fixture(autouse=True)
def frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll for deliveries frequently, so that tests need not wait."""
    monkeypatch.setattr("scrapper.jobs.webhooks._POLL_SECONDS", 0.02)


class Receiver:
    """Receives webhooks. Responds with the ``statuses`` one after another, then with 204."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.calls: list[tuple[dict[str, str], bytes]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.calls.append((dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if self.statuses else 204
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.calls]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver, app = Receiver(), web.Application()
    app.router.add_post("/hook/secret-path", receiver.take)
    app.router.add_route("*", "/elsewhere", receiver.take)
    async with TestServer(app, host="127.0.0.1") as server:
        receiver.url = str(server.make_url("/hook/secret-path"))  # type: ignore[attr-defined]
        yield receiver


async def submit(client: Client, url: str, *shortcodes: str) -> dict[str, Any]:
    body = {"urls": [REEL.format(shortcode) for shortcode in shortcodes], "webhook": url}
    async with client.post("/jobs", json=body) as response:
        assert response.status == 202, await response.text()
        job: dict[str, Any] = await response.json()
        return job


@both_modes
async def test_a_finished_job_sends_one_signed_webhook(
    instagram: StandIn, start_service: StartService, receiver: Any
) -> None:
    client = await start_service(**ALLOWED)
    job = await submit(client, receiver.url, "reel-one", "notfound-one")
    finished = await finish(client, job)
    await until(lambda: len(receiver.calls) == 1)
    [(headers, body)] = receiver.calls
    assert Webhook(SECRET).verify(body, headers) == {**finished, "webhook_state": "waiting"}
    assert headers["Content-Type"] == "application/json"
    # If the first webhook were repeated, that would happen before this one arrives.
    other = await submit(client, receiver.url.replace("127.0.0.1", "localhost"), "reel-one")
    await until(lambda: len(receiver.calls) == 2)
    assert json.loads(receiver.calls[1][1])["id"] == other["id"]
    assert len(set(receiver.ids)) == 2


@both_modes
async def test_a_job_of_invalid_links_also_sends_a_webhook(
    instagram: StandIn, start_service: StartService, receiver: Any
) -> None:
    client = await start_service(**ALLOWED)
    body = {"urls": ["https://example.com/"], "webhook": receiver.url}
    async with client.post("/jobs", json=body) as response:
        assert response.status == 202
    await until(lambda: len(receiver.calls) == 1)
    assert json.loads(receiver.calls[0][1])["state"] == "done"


@both_modes
async def test_a_delivery_is_retried_until_it_succeeds(
    instagram: StandIn,
    start_service: StartService,
    receiver: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrapper.jobs.webhooks._FIRST_PAUSE", 0.01)
    receiver.statuses = [500, 302, 404]
    client = await start_service(**ALLOWED)
    await submit(client, receiver.url, "reel-thrice")
    await until(lambda: len(receiver.calls) == 4)
    # All four calls were the same delivery, and the redirect was not followed.
    assert len(set(receiver.ids)) == 1
    await submit(client, receiver.url, "reel-thrice")
    await until(lambda: len(set(receiver.ids)) == 2)
    assert len(receiver.calls) == 5


@both_modes
async def test_a_delivery_is_not_retried_after_a_410(
    instagram: StandIn, start_service: StartService, receiver: Any
) -> None:
    receiver.statuses = [410]
    client = await start_service(**ALLOWED)
    await submit(client, receiver.url, "reel-gone-hook")
    await until(lambda: len(receiver.calls) == 1)
    await submit(client, receiver.url, "reel-gone-hook")
    await until(lambda: len(receiver.calls) == 2)
    assert len(set(receiver.ids)) == 2


@both_modes
async def test_each_end_of_a_job_sends_a_webhook(
    instagram: StandIn, start_service: StartService, receiver: Any
) -> None:
    client = await start_service(
        INSTAGRAM_COOLDOWN_SECONDS="300", JOB_PATIENCE_SECONDS="3600", **ALLOWED
    )
    instagram.hold()
    job = await submit(client, receiver.url, "notfound-twice")
    instagram.release()
    await finish(client, job)
    await until(lambda: len(receiver.calls) == 1)
    async with client.post(f"/jobs/{job['id']}/retry") as response:
        assert response.status == 202
    await finish(client, job)
    await until(lambda: len(receiver.calls) == 2)
    assert len(set(receiver.ids)) == 2


@both_modes
async def test_a_retry_without_failed_posts_sends_no_webhook(
    instagram: StandIn, start_service: StartService, receiver: Any
) -> None:
    client = await start_service(**ALLOWED)
    job = await submit(client, receiver.url, "reel-nothing-to-retry")
    await until(lambda: len(receiver.calls) == 1)
    async with client.post(f"/jobs/{job['id']}/retry") as response:
        assert (await response.json())["state"] == "done"
    await client.delete(f"/jobs/{job['id']}")
    await submit(client, receiver.url, "reel-nothing-to-retry")
    await until(lambda: len(receiver.calls) == 2)
    assert [json.loads(body)["id"] for _, body in receiver.calls].count(job["id"]) == 1


def test_a_webhook_survives_a_kill_and_no_secret_is_logged(
    instagram: StandIn, tmp_path: Path
) -> None:
    calls: list[str] = []

    async def run() -> None:
        receiver, app = Receiver(), web.Application()
        receiver.statuses = [500] * 2
        app.router.add_post("/hook/secret-path", receiver.take)
        async with TestServer(app, host="127.0.0.1") as server:
            url = str(server.make_url("/hook/secret-path"))
            environment = {**instagram.environment, **ALLOWED}
            short_pauses = {
                "scrapper.jobs.webhooks._POLL_SECONDS": 0.02,
                "scrapper.jobs.webhooks._FIRST_PAUSE": 0.1,
            }

            def kill_and_restart() -> list[str]:
                body = {"urls": [REEL.format("reel-killed-hook")], "webhook": url}
                with Service(tmp_path, environment, constants=short_pauses) as service:
                    assert service.post("/jobs", body).status_code == 202
                    wait_for(lambda: bool(receiver.calls))
                    service.kill()
                    log = service.raw_log
                with Service(tmp_path, environment, constants=short_pauses) as service:
                    wait_for(lambda: len(receiver.calls) == 3)
                    return [*log, *service.raw_log]

            log = "".join(await asyncio.to_thread(kill_and_restart))
        assert len(set(receiver.ids)) == 1
        assert "webhook not delivered" in log
        assert "secret-path" not in log
        assert SECRET not in log
        calls.extend(receiver.ids)

    asyncio.run(run())
    assert len(calls) >= 3


async def state_of(client: Client, job: dict[str, Any]) -> str:
    async with client.get(f"/jobs/{job['id']}") as response:
        return str((await response.json())["webhook_state"])


async def until_state(client: Client, job: dict[str, Any], state: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await state_of(client, job) != state:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_job_shows_the_state_of_its_webhook(
    instagram: StandIn, start_service: StartService, receiver: Any
) -> None:
    receiver.statuses = [410]
    client = await start_service(**ALLOWED)
    async with client.post("/jobs", json={"urls": [REEL.format("reel-state")]}) as response:
        assert (await response.json())["webhook_state"] == "none"
    refused = await submit(client, receiver.url, "notfound-state")
    assert refused["webhook_state"] == "waiting"
    await until_state(client, refused, "given_up")
    delivered = await submit(client, receiver.url, "reel-state")
    await until_state(client, delivered, "delivered")
    # The next end of the same job sends a new webhook.
    async with client.post(f"/jobs/{refused['id']}/retry") as response:
        assert (await response.json())["webhook_state"] == "waiting"
    await until_state(client, refused, "delivered")
    assert len(receiver.calls) == 3


async def test_the_state_of_a_webhook_survives_a_restart(
    instagram: StandIn, start_service: StartService, receiver: Any
) -> None:
    receiver.statuses = [410]
    client = await start_service(**ALLOWED)
    job = await submit(client, receiver.url, "reel-restart")
    await until_state(client, job, "given_up")
    await client.close()
    assert await state_of(await start_service(**ALLOWED), job) == "given_up"


async def test_stuck_and_dead_receivers_do_not_delay_others(
    instagram: StandIn, start_service: StartService, receiver: Any
) -> None:
    calls, ended = [], asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(writer)
        await ended.wait()
        writer.close()

    client = await start_service(MAX_JOBS="1000", **ALLOWED)
    # Each host counts as a separate receiver.
    server = await asyncio.start_server(hang, "127.0.0.2", 0)
    stuck = f"http://127.0.0.2:{server.sockets[0].getsockname()[1]}/"
    dead = "http://127.0.0.3:9/"
    waiting = [await submit(client, url, "reel-stuck") for url in [stuck, dead] * 12]
    await until(lambda: len(calls) == 2)
    for number in range(5):
        job = await submit(client, receiver.url, f"reel-well-{number}")
        await until_state(client, job, "delivered")
    # The other deliveries did not wait for the stuck one to time out.
    assert len(calls) == 2
    assert {await state_of(client, job) for job in waiting} == {"waiting"}
    ended.set()
    server.close()


async def test_without_allowed_hosts_webhooks_are_disabled(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    body = {"urls": [REEL.format("reel-none")], "webhook": "https://example.com/"}
    async with client.post("/jobs", json=body) as response:
        assert (response.status, (await response.json())["code"]) == (403, "webhooks_disabled")


async def test_a_webhook_to_another_host_is_refused(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(**ALLOWED)
    for url in (
        "",
        "x",
        "https://example.com/",
        "ftp://localhost/",
        "http://user@localhost/",
        "http://localhost:99999/",
        "http://[::1/",
        "http://localhost.example.com/",
        "http://10.0.0.1/",
        "//localhost/",
        "http://" + "x" * 3000,
    ):
        body = {"urls": [REEL.format("reel-other-host")], "webhook": url}
        async with client.post("/jobs", json=body) as response:
            code = (await response.json())["code"]
            assert (response.status, code) == (400, "invalid_body"), url
    assert instagram.requests() == 0


async def test_a_name_with_a_private_address_is_not_called(
    instagram: StandIn, start_service: StartService, receiver: Any
) -> None:
    client = await start_service(WEBHOOK_HOSTS="localhost", WEBHOOK_SECRET=SECRET)
    await submit(client, receiver.url.replace("127.0.0.1", "localhost"), "reel-rebound")
    await until(lambda: metric_of(client, "webhooks_total", outcome="failed") > 0)
    assert receiver.calls == []
