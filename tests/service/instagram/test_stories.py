"""Stories and highlight items, which are fetched by their links, and only with a session."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Client, StartService
from tests.instagram import Scenario, StandIn
from tests.instagram.posts import media_id
from tests.service.handlers.test_jobs import finish
from tests.service.instagram.test_sources import contents_of, session_file

NUMBER = media_id("story-one")
LINKS = (
    f"https://www.instagram.com/stories/someone/{NUMBER}/",
    f"https://www.instagram.com/s/aGlnaGxpZ2h0OjE3OTAw?story_media_id={NUMBER}_4242&igsh=x",
)
ABSENT = (
    "caption",
    "location",
    "clips_metadata",
    "like_count",
    "comment_count",
    "usertags",
)


def as_story(media: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in media.items() if key not in ABSENT}


async def scrape(client: Client, url: str) -> tuple[int, dict[str, Any]]:
    response = await client.post("/scrape", json={"url": url})
    return response.status, await response.json()


@pytest.mark.parametrize("url", LINKS)
async def test_story_takes_one_request_with_the_session(
    instagram: StandIn, start_service: StartService, tmp_path: Path, url: str
) -> None:
    instagram.set_scenario("story", Scenario("", shape="reel", change=as_story))
    client = await start_service(**session_file(tmp_path, "alive"))
    status, post = await scrape(client, url)
    assert (status, post["shortcode"], post["original_url"]) == (200, "story-one", url)
    assert contents_of(post) == instagram.bytes_of("story-one")
    assert (post["description"], post["details"]["likes"], post["details"]["music"]) == (
        "",
        None,
        None,
    )
    assert instagram.requests() - instagram.requests("media") == 2
    assert instagram.requests("account") == instagram.requests("media_info", "story-one") == 1
    async with client.get("/download", params={"url": url}) as response:
        assert [await response.read()] == instagram.bytes_of("story-one")
    assert instagram.requests("account") == 1


@pytest.mark.parametrize("url", LINKS)
async def test_story_without_a_session_sends_no_request(
    instagram: StandIn, start_service: StartService, url: str
) -> None:
    client = await start_service()
    status, body = await scrape(client, url)
    assert (status, body["code"]) == (403, "login_required")
    async with client.post("/jobs", json={"urls": [url]}) as response:
        [post] = (await finish(client, await response.json()))["posts"]
    assert (post["status"], post["code"]) == (403, "login_required")
    assert instagram.requests() == 0


@pytest.mark.parametrize("info", ["deleted", "notfound"])
async def test_expired_story_is_not_found(
    instagram: StandIn, start_service: StartService, tmp_path: Path, info: str
) -> None:
    instagram.set_scenario("story", Scenario("", info=info))
    client = await start_service(**session_file(tmp_path, "alive"))
    assert (await scrape(client, LINKS[0]))[1]["code"] == "post_not_found"
    assert instagram.requests("account") == 1


async def test_challenged_account_fetches_no_stories(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    instagram.set_scenario("story", Scenario("", info="to_terms"))
    client = await start_service(**session_file(tmp_path, "alive"))
    codes = [(await scrape(client, LINKS[0]))[1]["code"] for _ in range(3)]
    assert codes == ["challenge_required", "login_required", "login_required"]
    assert instagram.requests("account") == 1
