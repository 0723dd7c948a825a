"""Every response matches the API's OpenAPI description."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from scrapper.app import create_app
from scrapper.assembly import assemble
from scrapper.handlers.openapi import describe_api
from scrapper.handlers.page import DOCS_FILES, PAGE_FILES
from scrapper.settings import load_settings
from tests.instagram import StandIn
from tests.process import Service
from tests.programs import output_of

KEY = "s3cret"
# The web page, the description itself and its viewer.
UNDESCRIBED = {*PAGE_FILES, "/openapi.json", *DOCS_FILES}
NO_LIMITS = {"INSTAGRAM_MAX_QUERIES": "0", "INSTAGRAM_COOLDOWN_SECONDS": "0"}


def test_every_route_is_described(media_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(assemble(load_settings(media_root=media_root)))
    routes = {
        (resource.canonical, route.method.lower())
        for resource in app.router.resources()
        for route in resource
        if resource.canonical not in UNDESCRIBED and route.method != "HEAD"
    }
    paths = describe_api(app, "/")["paths"]
    described = {(path, method) for path, item in paths.items() for method in item}
    assert described == routes


@pytest.mark.parametrize("key", ["", KEY])
def test_the_description_states_whether_a_key_is_required(
    media_root: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("API_KEY", key)
    described = describe_api(create_app(assemble(load_settings(media_root=media_root))), "/")
    assert set(described["components"]["securitySchemes"]) == {"key", "bearer"}
    assert ({} in described["security"]) is (key == "")
    assert described["security"][-2:] == [{"key": []}, {"bearer": []}]
    assert "401" in described["paths"]["/scrape"]["post"]["responses"]


def test_the_webhook_has_the_schema_of_a_job(media_root: Path) -> None:
    described = describe_api(create_app(assemble(load_settings(media_root=media_root))), "/")
    webhook = described["webhooks"]["jobEnded"]["post"]
    job = described["paths"]["/jobs/{id}"]["get"]["responses"]["200"]["content"]
    assert webhook["requestBody"]["content"] == job
    assert {parameter["name"] for parameter in webhook["parameters"]} == {
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    }


def test_common_errors_are_described_for_every_operation(media_root: Path) -> None:
    described = describe_api(create_app(assemble(load_settings(media_root=media_root))), "/")
    for item in described["paths"].values():
        for method, operation in item.items():
            cross_site = {"403"} if method != "get" else set()
            expected = {"413", "421", "429", "500", "503", *cross_site}
            assert operation["responses"].keys() >= expected
            assert "requestBody" not in operation or "408" in operation["responses"]


@pytest.mark.parametrize("key", ["", KEY])
async def test_responses_to_generated_requests_match_the_description(
    instagram: StandIn, tmp_path: Path, key: str
) -> None:
    def run() -> None:
        environment = {**instagram.environment, **NO_LIMITS, "API_KEY": key}
        with Service(tmp_path / "media", environment) as service:
            service.headers["X-API-Key"] = key
            for path in ("reel/reel-one", "p/photo-one", "p/carousel-one"):
                assert service.scrape(f"https://www.instagram.com/{path}/").status_code == 200
            command = [str(Path(sys.executable).with_name("schemathesis"))]
            command += ["--config-file", str(Path(__file__).with_name("schemathesis.toml"))]
            command += ["run", f"{service.url}/openapi.json", "--checks", "all", "--no-color"]
            # DELETE cancels a job's waiting posts, and the job can still be read afterwards.
            # test_posts.py checks that a deleted post is gone.
            command += ["--exclude-checks", "use_after_free"]
            # This stream never ends.
            command += ["--exclude-operation-id", "followEvents"]
            command += ["--seed", "1", "--continue-on-failure"]
            # With a key, the same handlers respond, so a few examples of each operation suffice.
            with_key = ["-H", f"X-API-Key: {key}", "--phases", "fuzzing", "--max-examples", "3"]
            command += with_key if key else ["--max-examples", "10"]
            output_of(command, folder=tmp_path)

    await asyncio.to_thread(run)


async def test_responses_about_stored_posts_match_the_description(
    instagram: StandIn, tmp_path: Path
) -> None:
    # Imported here, because otherwise every pytest process would import it.
    import schemathesis  # noqa: PLC0415

    def run() -> None:
        with Service(tmp_path, {**instagram.environment, **NO_LIMITS}) as service:
            schema: Any = schemathesis.openapi.from_url(f"{service.url}/openapi.json")

            def check(response: requests.Response, path: str, status: int) -> requests.Response:
                assert response.status_code == status
                schema[path][str(response.request.method)].validate_response(response)
                return response

            urls = ["https://www.instagram.com/reel/reel-one/", "https://example.com/"]
            urls.append("https://www.instagram.com/p/carousel-one/")
            for url in (urls[0], urls[2]):
                check(service.scrape(url), "/scrape", 200)
            job = check(service.post("/jobs", {"urls": urls}), "/jobs", 202).headers["Location"]
            check(service.get(f"{job}/events"), "/jobs/{id}/events", 200)
            check(service.get(job), "/jobs/{id}", 200)
            check(service.get("/jobs"), "/jobs", 200)
            check(service.get("/posts?limit=1"), "/posts", 200)
            check(service.get("/storage"), "/storage", 200)
            thumbnail = "/posts/{shortcode}/thumbnail"
            check(service.get("/posts/reel-one/thumbnail"), thumbnail, 200)
            keep = {"shortcodes": ["reel-one", "another-one"], "action": "keep"}
            check(service.post("/posts/bulk", keep), "/posts/bulk", 200)
            archive = "/download?shortcodes=reel-one,another-one&archive=zip"
            check(service.get(archive), "/download", 200)
            check(service.get("/posts/reel-one"), "/posts/{shortcode}", 200)
            media = "/media/{shortcode}/{filename}"
            check(service.get("/media/reel-one/reel-one.mp4"), media, 200)
            check(service.get("/media/reel-one/reel-one.jpg"), media, 200)
            check(service.get("/download/carousel-one"), "/download/{shortcode}", 200)
            check(service.get("/download/carousel-one?archive=zip"), "/download/{shortcode}", 200)
            check(service.get("/ready"), "/ready", 200)

    await asyncio.to_thread(run)
