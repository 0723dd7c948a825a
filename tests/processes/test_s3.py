"""The plugin s3, with a server that implements the S3 protocol."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scrapper.errors import SettingsError
from scrapper.plugins import s3
from scrapper.settings import Settings
from tests.instagram import StandIn
from tests.process import Service, free_port, wait_for
from tests.s3_server import CREDENTIALS, S3Server

pytestmark = pytest.mark.blocks

REEL = "https://www.instagram.com/reel/reel-1/"


@pytest.fixture
def bucket() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


def copied(service: Service, shortcode: str) -> Any:
    """Wait until the post is copied, then return it."""

    def post() -> Any:
        return service.get(f"/posts/{shortcode}").json()

    wait_for(lambda: post()["object_url"] is not None)
    return post()


def test_a_stored_post_is_copied_and_gets_its_object_urls(
    instagram: StandIn, media_root: Path, bucket: S3Server
) -> None:
    environment = {**instagram.environment, **bucket.environment, "S3_PREFIX": "/insta/"}
    with Service(media_root, environment) as service:
        assert service.scrape(REEL).json()["object_url"] is None
        post = copied(service, "reel-1")
        service.terminate()
        assert service.wait() == 0
    folder = media_root / "reel-1"
    names = ["reel-1.mp4", "reel-1.jpg", "post.json"]
    assert bucket.objects() == {f"insta/reel-1/{it}": (folder / it).read_bytes() for it in names}
    address = f"{bucket.url}/posts/insta/reel-1/reel-1.mp4"
    assert post["object_url"] == post["media"][0]["object_url"] == address
    assert post["thumbnail"]["object_url"] == f"{bucket.url}/posts/insta/reel-1/reel-1.jpg"
    head = bucket.client.head_object(Bucket="posts", Key="insta/reel-1/reel-1.mp4")
    assert head["ContentType"] == "video/mp4"
    text = "".join(service.raw_log)
    assert "file copied" in text
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in text


def test_a_kill_before_the_upload_loses_no_copy(instagram: StandIn, media_root: Path) -> None:
    # Nothing listens on this port, so the upload cannot have begun.
    away = {"PLUGINS": "scrapper.plugins.s3", "S3_BUCKET": "posts", **CREDENTIALS}
    away["S3_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    with Service(media_root, {**instagram.environment, **away}) as service:
        assert service.scrape(REEL).status_code == 200
        service.kill()
    with S3Server() as bucket:
        environment = {**instagram.environment, **bucket.environment}
        for _ in range(2):
            with Service(media_root, environment) as service:
                copied(service, "reel-1")
                service.kill()
        objects = bucket.objects()
    videos = [content for key, content in objects.items() if key.endswith(".mp4")]
    assert videos == instagram.bytes_of("reel-1")
    assert len(objects) == 3


def test_a_large_file_is_uploaded_in_parts_without_leftovers(
    instagram: StandIn, media_root: Path, bucket: S3Server
) -> None:
    key = "big-1/big-1.mp4"
    bucket.client.create_multipart_upload(Bucket="posts", Key=key)
    with Service(media_root, {**instagram.environment, **bucket.environment}) as service:
        url = "https://www.instagram.com/reel/big-1/"
        assert service.scrape(url).status_code == 200
        copied(service, "big-1")
    assert bucket.objects()[key] == instagram.bytes_of("big-1")[0]
    assert bucket.client.head_object(Bucket="posts", Key=key)["ETag"].endswith('-2"')
    assert "Uploads" not in bucket.client.list_multipart_uploads(Bucket="posts")


def test_a_refreshed_post_is_copied_again(
    instagram: StandIn, media_root: Path, bucket: S3Server
) -> None:
    def changed_at() -> Any:
        return bucket.client.head_object(Bucket="posts", Key="reel-1/reel-1.mp4")["Metadata"]

    with Service(media_root, {**instagram.environment, **bucket.environment}) as service:
        service.scrape(REEL)
        copied(service, "reel-1")
        before = changed_at()
        service.scrape(REEL, refresh=True)
        copied(service, "reel-1")
        assert changed_at() != before


def test_the_again_option_copies_the_whole_library(
    instagram: StandIn, media_root: Path, bucket: S3Server
) -> None:
    """Posts that were stored before the plugin was in use are copied, too."""
    with Service(media_root, instagram.environment) as service:
        for number in (1, 2, 3):
            service.scrape(f"https://www.instagram.com/reel/reel-{number}/")
    environment = {**instagram.environment, **bucket.environment}
    with Service(media_root, environment) as service:
        service.scrape("https://www.instagram.com/reel/reel-4/")
        copied(service, "reel-4")
        assert {key.split("/")[0] for key in bucket.objects()} == {"reel-4"}
        # The running service copies them.
        code, text = again(media_root, environment)
        assert (code, text.partition(".")[0]) == (0, "The running service will do this")
        copied(service, "reel-1")
        wait_for(lambda: len(bucket.objects()) == 12)
    for key in list(bucket.objects()):
        bucket.client.delete_object(Bucket="posts", Key=key)
    assert again(media_root, environment) == (0, "s3: 4 done, 0 failed\n")
    assert len(bucket.objects()) == 12
    shown = command(media_root, environment, "plugins")
    assert shown == (0, "s3 (PLUGINS): configure, post_stored; 4 done, 0 failed, 0 behind\n")


def again(media_root: Path, environment: dict[str, str]) -> tuple[int, str]:
    return command(media_root, environment, "plugins", "--again", "s3")


def command(media_root: Path, environment: dict[str, str], *words: str) -> tuple[int, str]:
    """Run a command; return its exit code and its output."""
    done = subprocess.run(
        [sys.executable, "-m", "scrapper", *words],
        env={**os.environ, **environment, "MEDIA_ROOT": str(media_root)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "S3_BUCKET: set it"),
        ({"S3_BUCKET": "posts", "S3_ENDPOINT": "not a URL"}, "S3_ENDPOINT"),
        (
            {"S3_BUCKET": "posts", "S3_ENDPOINT": "http://me:secret@s3.lan"},
            "only the server's address",
        ),
        ({"S3_BUCKET": "posts", "S3_PREFIX": "a?b"}, "S3_PREFIX: use letters"),
    ],
)
def test_invalid_settings_are_named(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], complaint: str
) -> None:
    for name, value in {"MEDIA_ROOT": "/tmp", **settings}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=complaint):
        s3.configure(settings=Settings())
