"""``GET /events``: changes to jobs, posts and the login."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Client, StartService, both_modes
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS
from tests.service.handlers.test_jobs import finish, get, submit

KEYS = "anna:anna-s-key\nbert:bert-s-key\n"
ANNA, BERT = {"X-API-Key": "anna-s-key"}, {"X-API-Key": "bert-s-key"}


@pytest.fixture(autouse=True)
def frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll often, so that events are sent soon."""
    monkeypatch.setattr("scrapper.handlers.event_feed._POLL_SECONDS", 0.02)


class Stream:
    """An event stream, read one event at a time."""

    def __init__(self, content: asyncio.StreamReader) -> None:
        self._content = content
        self.last = ""

    async def next(self) -> tuple[str, Any]:
        """Return the name and the data of the next event."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                line = (await self._content.readline()).decode().rstrip("\r\n")
                if not line and fields:
                    self.last = fields["id"]
                    return fields["event"], json.loads(fields["data"])
                if line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    fields[name] = value

    async def until(self, name: str, **expected: Any) -> Any:
        """Return the data of the next event called *name* with the *expected* values."""
        while True:
            found, data = await self.next()
            if found == name and expected.items() <= data.items():
                return data


@asynccontextmanager
async def following(client: Client, last: str = "", **headers: str) -> AsyncIterator[Stream]:
    headers |= {"Last-Event-ID": last} if last else {}
    async with client.get("/events", headers=headers) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        yield Stream(response.content)  # type: ignore[arg-type]


async def service_with_keys(start: StartService, folder: Path, **settings: str) -> Client:
    (folder / "keys").write_text(KEYS)
    return await start(API_KEYS_FILE=str(folder / "keys"), API_KEY="the-key", **settings)


@both_modes
async def test_a_job_can_be_followed_from_start_to_end(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    async with following(client) as stream:
        assert await stream.next() == ("reset", {})
        job = await submit(client, "reel-a", "reel-b")
        new = await stream.until("job", id=job["id"])
        assert [post["index"] for post in new["posts"]] == [0, 1]
        shown = {post["index"]: post for post in new["posts"]}
        change = new
        while change["state"] == "running":
            change = await stream.until("job", id=job["id"])
            shown |= {post["index"]: post for post in change["posts"]}
        for post in shown.values():
            del post["index"]
        assert {**change, "posts": [shown[0], shown[1]]} == await get(client, job)


@both_modes
async def test_only_changed_posts_of_a_job_are_sent(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service(SCRAPE_CONCURRENCY="1")
    instagram.hold()
    async with following(client) as stream:
        job = await submit(client, "reel-1", "reel-2", "reel-3")
        shown = await stream.until("job", id=job["id"])
        while not any(post["state"] == "running" for post in shown["posts"]):
            shown = await stream.until("job", id=job["id"])
        await client.delete(f"/jobs/{job['id']}")
        changed: set[int] = set()
        while len(changed) < 2:
            cancelled = await stream.until("job", id=job["id"])
            changed |= {post["index"] for post in cancelled["posts"]}
        assert changed == {1, 2}
        instagram.release()


@both_modes
async def test_each_change_to_a_post_is_sent(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    async with following(client) as stream:
        await stream.next()
        url = "https://www.instagram.com/reel/reel-post/"
        assert (await client.post("/scrape", json={"url": url})).status == 200
        await stream.until("post", shortcode="reel-post", change="stored")
        assert (await client.put("/posts/reel-post/keep")).status == 204
        await stream.until("post", shortcode="reel-post", change="changed")
        assert (await client.delete("/posts/reel-post")).status == 204
        await stream.until("post", shortcode="reel-post", change="removed")


@both_modes
async def test_a_stream_resumes_after_the_last_event_id(
    instagram: StandIn, start_service: StartService
) -> None:
    client = await start_service()
    async with following(client) as stream:
        await stream.next()
        last = stream.last
    job = await submit(client, "reel-on")
    await finish(client, job)
    async with following(client, last) as stream:
        names = set()
        while True:
            name, data = await stream.next()
            names.add(name)
            if data.get("state") == "done":
                break
        assert names <= {"job", "post"}


@pytest.mark.parametrize("last", ["x", "ffffffff-1", "-", "9" * 5000])
async def test_an_invalid_event_id_causes_a_reset(start_service: StartService, last: str) -> None:
    client = await start_service()
    async with following(client, last) as stream:
        assert await stream.next() == ("reset", {})


async def test_a_restart_causes_a_reset(start_service: StartService) -> None:
    client = await start_service()
    async with following(client) as stream:
        await stream.next()
    await client.close()
    client = await start_service()
    async with following(client, stream.last) as resumed:
        assert await resumed.next() == ("reset", {})


@pytest.mark.parametrize("mode", ["with Redis"], indirect=True)
async def test_events_of_one_replica_reach_streams_of_another(
    instagram: StandIn, start_service: StartService
) -> None:
    one, other = await start_service(), await start_service()
    async with following(one) as stream:
        await stream.next()
        # A worker downloads the post.
        job = await submit(other, "reel-far")
        await stream.until("post", shortcode="reel-far", change="stored")
        await finish(other, job)
        assert (await other.delete("/posts/reel-far")).status == 204
        await stream.until("post", shortcode="reel-far", change="removed")
        assert (await other.delete(f"/jobs/{job['id']}?forget=1")).status == 204
        await stream.until("job", id=job["id"], forgotten=True)


@both_modes
async def test_a_named_key_follows_only_its_own_jobs(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    client = await service_with_keys(start_service, tmp_path)
    async with (
        following(client, **ANNA) as anna,
        following(client, **BERT) as bert,
        following(client, **{"X-API-Key": "the-key"}) as unnamed,
    ):
        body = {"urls": ["https://www.instagram.com/reel/reel-anna/"]}
        async with client.post("/jobs", json=body, headers=ANNA) as response:
            job = await response.json()
        await anna.until("job", id=job["id"], state="done")
        await unnamed.until("job", id=job["id"], state="done")
        # Changes to posts are visible to all keys.
        await bert.until("post", shortcode="reel-anna")
        async with client.post("/jobs", json=body, headers=BERT) as response:
            own = await response.json()
        names = []
        while True:
            name, data = await bert.next()
            names.append(data.get("id", name))
            if data.get("state") == "done":
                break
        assert set(names) <= {own["id"], "post"}


async def test_a_client_with_a_key_follows_the_login(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    client = await service_with_keys(start_service, tmp_path)
    async with following(client, **ANNA) as stream:
        await stream.next()
        body = {"sessionid": "1%3Aalive%3A12"}
        async with client.put("/login", json=body, headers=ANNA) as response:
            state = await response.json()
        assert await stream.until("login", state="active") == state


async def test_a_client_can_have_at_most_twenty_streams(start_service: StartService) -> None:
    client = await start_service()
    streams = [await client.get("/events") for _ in range(20)]
    async with client.get("/events") as response:
        assert (response.status, (await response.json())["code"]) == (429, "too_many_requests")
    for stream in streams:
        stream.close()


async def test_a_disconnected_stream_no_longer_counts(start_service: StartService) -> None:
    client = await start_service()
    for _ in range(20):
        async with client.get("/events") as response:
            await response.content.readuntil(b"\r\n\r\n")
    # There are no events in the meantime, so nothing is sent to these streams.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (stream := await client.get("/events")).status != 200:  # noqa: ASYNC110 - the server sees it later
            await asyncio.sleep(0.01)
    stream.close()


async def test_a_stream_ends_soon_after_its_client_disconnects(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.handlers.streams._POLL_SECONDS", 0.01)
    client = await start_service()
    async with client.get("/events") as response:
        await response.content.readuntil(b"\r\n\r\n")
    names = ["stream of events"]
    while names:
        names = [task.get_name() for task in asyncio.all_tasks() if "stream" in task.get_name()]
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("version", "header", "expected"),
    [
        ("HTTP/1.1", "", None),
        ("HTTP/1.1", "Connection: close\r\n", b"close"),
        ("HTTP/1.0", "", None),
        ("HTTP/1.0", "Connection: keep-alive\r\n", None),
    ],
)
async def test_a_stream_announces_whether_its_connection_closes(
    start_service: StartService, version: str, header: str, expected: bytes | None
) -> None:
    client = await start_service()
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(f"GET /events {version}\r\nHost: localhost\r\n{header}\r\n".encode())
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).strip().split(b"\r\n")
    writer.close()
    assert first.endswith(b" 200 OK")
    assert dict(line.split(b": ", 1) for line in lines).get(b"Connection") == expected


async def test_a_stream_ends_with_its_key_or_session(
    start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.handlers.streams._POLL_SECONDS", 0.01)
    client = await service_with_keys(start_service, tmp_path)
    async with client.post("/session", headers={"X-API-Key": "the-key"}) as response:
        cookie = {"Cookie": f"session={response.cookies['session'].value}"}
    async with (
        client.get("/events", headers=cookie) as of_session,
        client.get("/events", headers=BERT) as of_key,
        client.get("/events", headers=ANNA) as other,
    ):
        await client.delete("/session", headers=cookie)
        (tmp_path / "keys").write_text("anna:anna-s-key\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            for response in (of_session, of_key):
                await response.content.read()
        assert not other.content.at_eof()


async def test_each_user_behind_a_proxy_has_a_separate_stream_limit(
    start_service: StartService,
) -> None:
    proxy = {"AUTH_PROXY_HEADER": "Remote-User", "AUTH_PROXIES": "127.0.0.1"}
    client = await start_service(**proxy)
    streams = [await client.get("/events", headers={"Remote-User": "anna"}) for _ in range(20)]
    for name, status in (("anna", 429), ("bert", 200)):
        async with client.get("/events", headers={"Remote-User": name}) as response:
            assert response.status == status
    for stream in streams:
        stream.close()


async def test_many_streams_share_one_poller(start_service: StartService) -> None:
    client = await start_service()
    streams = [await client.get("/events") for _ in range(15)]
    for stream in streams:
        await stream.content.readuntil(b"\r\n\r\n")
    assert len([task for task in asyncio.all_tasks() if task.get_name() == "events"]) == 1
    for stream in streams:
        stream.close()


@both_modes
async def test_a_shutdown_ends_the_event_streams(start_service: StartService) -> None:
    client = await start_service()
    async with client.get("/events") as response:
        await response.content.readuntil(b"\r\n\r\n")
        closing = asyncio.create_task(client.server.close())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await response.content.read()
        await closing
