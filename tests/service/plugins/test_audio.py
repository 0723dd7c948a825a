"""The plugin ``audio``, with the real ffmpeg."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scrapper.errors import SettingsError
from scrapper.instagram.files.song import fetch_song
from scrapper.library.post import MediaItem, Post
from scrapper.plugins import audio
from scrapper.settings import Settings
from tests.conftest import Client, StartService, both_modes, until
from tests.instagram import Answer, Scenario, StandIn
from tests.instagram.dash import url_of
from tests.instagram.posts import content_of
from tests.process import PATIENCE_SECONDS

pytestmark = [
    pytest.mark.skipif(
        shutil.which("ffmpeg") is None, reason="needs ffmpeg: on Debian, apt install ffmpeg"
    ),
    pytest.mark.usefixtures("instagram"),
]

PLUGIN = {"PLUGINS": "scrapper.plugins.audio"}


async def scrape(client: Client, shortcode: str) -> Any:
    url = f"https://www.instagram.com/reel/{shortcode}/"
    response = await client.post("/scrape", json={"url": url})
    assert response.status == 200, await response.text()
    return await response.json()


async def post_with_audio(client: Client, shortcode: str) -> Any:
    """Wait until the post has an audio file; return the post."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            post = await (await client.get(f"/posts/{shortcode}")).json()
            if any(item["type"] == "audio" for item in post["media"]):
                return post
            await asyncio.sleep(0.05)


def codecs(content: bytes, path: Path) -> list[str]:
    """Return the codecs in a file, as ffprobe names them."""
    path.write_bytes(content)
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "json"]
    done = subprocess.run([*command, str(path)], capture_output=True, check=True)
    return [stream["codec_name"] for stream in json.loads(done.stdout)["streams"]]


@both_modes
async def test_the_audio_of_a_stored_video_becomes_a_file(
    start_service: StartService, tmp_path: Path, media_root: Path
) -> None:
    client = await start_service(**PLUGIN)
    await scrape(client, "reel-1")
    post = await post_with_audio(client, "reel-1")
    video, sound = post["media"]
    assert video["type"] == "video"
    assert sound["path"] == str(media_root / "reel-1/reel-1.m4a")
    assert (sound["type"], sound["cdn_url"]) == ("audio", None)
    assert (sound["width"], sound["height"], sound["duration"]) == (None, None, video["duration"])
    response = await client.get(sound["url"])
    assert response.content_type == "audio/mp4"
    content = await response.read()
    assert len(content) == sound["size"]
    assert codecs(content, tmp_path / "sound") == ["aac"]
    downloaded = await client.get("/download/reel-1?audio=1")
    assert await downloaded.read() == content
    assert "reel-1.m4a" in downloaded.headers["Content-Disposition"]
    second = await client.get("/download/reel-1?item=2")
    assert await second.read() == content


@both_modes
async def test_one_request_downloads_a_post_and_its_audio(
    start_service: StartService, tmp_path: Path
) -> None:
    client = await start_service(**PLUGIN)
    url = "https://www.instagram.com/reel/reel-2/"
    responses = await asyncio.gather(
        *(client.get("/download", params={"url": url, "audio": "1"}) for _ in range(10))
    )
    contents = {await response.read() for response in responses}
    assert {response.status for response in responses} == {200}
    assert codecs(contents.pop(), tmp_path / "sound") == ["aac"]
    assert not contents


async def test_an_item_of_a_carousel_is_chosen_by_its_number(start_service: StartService) -> None:
    client = await start_service(**PLUGIN)
    await scrape(client, "carousel-1")
    assert (await client.get("/download/carousel-1?audio=1&item=1")).status == 404
    response = await client.get("/download/carousel-1?audio=1&item=2")
    assert "carousel-1_2.m4a" in response.headers["Content-Disposition"]


async def test_a_video_in_other_codecs_gets_a_playable_copy(
    start_service: StartService, tmp_path: Path
) -> None:
    client = await start_service(**PLUGIN)
    await scrape(client, "vp9-1")
    original = await (await client.get("/download/vp9-1")).read()
    assert codecs(original, tmp_path / "video") == ["vp9", "opus"]
    response = await client.get("/download/vp9-1?h264=1")
    assert response.status == 200, await response.text()
    content = await response.read()
    assert codecs(content, tmp_path / "copy") == ["h264", "aac"]
    again = await client.get("/download/vp9-1?h264=1")
    assert await again.read() == content
    post = await post_with_audio(client, "vp9-1")
    assert "/media/vp9-1/vp9-1_h264.mp4" in [item["url"] for item in post["media"]]
    assert post["video"].endswith("/vp9-1.mp4")


async def test_a_video_that_plays_anywhere_is_not_copied(
    start_service: StartService, instagram: StandIn
) -> None:
    client = await start_service(**PLUGIN)
    await scrape(client, "reel-3")
    response = await client.get("/download/reel-3?h264=1")
    assert [await response.read()] == instagram.bytes_of("reel-3")


@pytest.mark.parametrize("shortcode", ["mute-1", "photo-1"])
async def test_an_item_without_audio_is_reported(
    start_service: StartService, shortcode: str
) -> None:
    client = await start_service(**PLUGIN)
    await scrape(client, shortcode)
    response = await client.get(f"/download/{shortcode}?audio=1")
    assert response.status == 404
    assert (await response.json())["error"] == "The item has no audio"


@pytest.mark.parametrize("query", ["audio=1", "h264=1"])
async def test_without_the_plugin_the_error_names_the_plugin(
    start_service: StartService, query: str
) -> None:
    client = await start_service()
    await scrape(client, "reel-4")
    response = await client.get(f"/download/reel-4?{query}")
    assert response.status == 404
    assert "needs PLUGINS=audio" in (await response.json())["error"]


async def test_pages_of_other_sites_cannot_cause_conversions(start_service: StartService) -> None:
    client = await start_service(**PLUGIN)
    await scrape(client, "vp9-3")
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    for query, status in (("h264=1", 403), ("audio=1", 403), ("", 200)):
        response = await client.get(f"/download/vp9-3?{query}", headers=headers)
        assert response.status == status, query


async def test_a_conversion_counts_towards_the_rate_limit(start_service: StartService) -> None:
    client = await start_service(**PLUGIN, RATE_LIMIT_MAX_REQUESTS="2")
    await scrape(client, "reel-5")
    statuses = [(await client.get("/download/reel-5?audio=1")).status for _ in range(2)]
    assert statuses == [200, 429]


async def test_an_invalid_value_is_refused(start_service: StartService) -> None:
    client = await start_service()
    assert (await client.get("/download/reel-4?audio=yes")).status == 400


@pytest.mark.blocks
def test_missing_ffmpeg_prevents_startup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MEDIA_ROOT", str(tmp_path))
    with pytest.raises(SettingsError, match="ffmpeg and ffprobe must be on the PATH"):
        audio.configure(settings=Settings())


async def test_a_file_that_ffmpeg_cannot_read_is_reported(
    start_service: StartService, media_root: Path
) -> None:
    client = await start_service(**PLUGIN)
    post = await scrape(client, "vp9-2")
    damaged = b"x" * post["media"][0]["size"]
    await asyncio.to_thread(Path(post["video"]).write_bytes, damaged)
    response = await client.get("/download/vp9-2?h264=1")
    assert (response.status, (await response.json())["code"]) == (422, "not_convertible")
    assert list((media_root / ".incoming").iterdir()) == []


def with_song(url: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a change that adds a song to a post with pictures."""

    def change(media: dict[str, Any]) -> dict[str, Any]:
        asset = {"title": "A song", "display_artist": "Band", "progressive_download_url": url}
        media["music_metadata"] = {"music_info": {"music_asset_info": asset}}
        media["clips_metadata"] = None
        return media

    return change


SONG = url_of("song-1", "song")


@pytest.mark.parametrize("shape", ["photo", "ten"])
@both_modes
async def test_one_request_downloads_pictures_and_their_song(
    start_service: StartService, instagram: StandIn, tmp_path: Path, shape: str
) -> None:
    answers = {"song/1": [Answer("sound.m4a", "audio/mp4")]}
    instagram.set_scenario(
        "song", Scenario("", shape=shape, change=with_song(SONG), answers=answers)
    )
    client = await start_service(**PLUGIN)
    url = "https://www.instagram.com/p/song-1/"
    response = await client.get("/download", params={"url": url, "audio": "1"})
    assert response.status == 200, await response.text()
    assert await response.read() == content_of("sound.m4a")
    assert "song-1.m4a" in response.headers["Content-Disposition"]
    post = await post_with_audio(client, "song-1")
    assert post["details"]["music"] == {"title": "A song", "artist": "Band", "url": SONG}
    *pictures, sound = post["media"]
    assert {picture["type"] for picture in pictures} == {"image"}
    assert (sound["type"], sound["codec"], sound["duration"]) == ("audio", "aac", 1.0)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer(status=403), 404),
        (Answer(status=503), 502),
        (Answer("photo.jpg", "audio/mp4"), 502),
        (Answer("silent.mp4", "audio/mp4"), 502),
        (Answer("sound.m4a", only=1000), 502),
    ],
)
async def test_a_failed_song_affects_nothing_else(
    start_service: StartService,
    instagram: StandIn,
    media_root: Path,
    answer: Answer,
    status: int,
) -> None:
    answers = {"song/1": [answer]}
    scenario = Scenario("", shape="photo", change=with_song(SONG), answers=answers)
    instagram.set_scenario("song", scenario)
    client = await start_service(**PLUGIN)
    await scrape(client, "song-1")
    assert (await client.get("/download/song-1?audio=1")).status == status
    assert (await client.get("/download/song-1")).status == 200
    # The plugin's hook also tries to download the song.
    await until(lambda: not list((media_root / ".incoming").iterdir()))


@pytest.mark.parametrize(
    "url", ["https://example.com/a.m4a", "http://127.0.0.1/a.m4a", "file:///x"]
)
async def test_songs_are_downloaded_only_from_the_cdn(
    start_service: StartService, instagram: StandIn, url: str
) -> None:
    instagram.set_scenario("song", Scenario("", shape="photo", change=with_song(url)))
    client = await start_service(**PLUGIN)
    await scrape(client, "song-1")
    assert (await client.get("/download/song-1?audio=1")).status in (404, 502)


@pytest.mark.parametrize(
    "first",
    [Answer(status=500), Answer("sound.m4a", only=100), Answer(wire="reset")],
    ids=["failed", "cut", "reset"],
)
async def test_a_failed_song_is_retried(instagram: StandIn, tmp_path: Path, first: Answer) -> None:
    answers = {"song/1": [first, Answer("sound.m4a", "audio/mp4")]}
    instagram.set_scenario("song", Scenario("", shape="photo", answers=answers))
    fetch = partial(fetch_song, SONG, tmp_path, "song", seconds=20, max_bytes=10**6, keep_free=0)
    song = await asyncio.to_thread(fetch)
    assert song.path.read_bytes() == content_of("sound.m4a")


async def test_a_slow_song_does_not_delay_videos(
    start_service: StartService, instagram: StandIn
) -> None:
    answers = {"song/1": [Answer("sound.m4a", wire="drip")]}
    scenario = Scenario("", shape="photo", change=with_song(SONG), answers=answers)
    instagram.set_scenario("song", scenario)
    client = await start_service(**PLUGIN, SCRAPE_TIMEOUT_SECONDS="5", PLUGIN_TIMEOUT_SECONDS="60")
    await scrape(client, "song-1")
    waiting = asyncio.create_task(client.get("/download/song-1?audio=1"))
    # The three requests are for the picture, the song for the hook, and the song for the client.
    await until(lambda: instagram.requests("media", "song-1") >= 3)
    reel = {"url": "https://www.instagram.com/reel/reel-1/", "audio": "1"}
    assert (await client.get("/download", params=reel)).status == 200
    assert (await waiting).status == 503


def large(media: dict[str, Any]) -> dict[str, Any]:
    """Leave only one candidate in the media object, a large one."""
    candidates = media["image_versions2"]["candidates"]
    del candidates[1:]
    candidates[0] |= {"width": 1440, "height": 1800}
    return media


def size_of(content: bytes, path: Path) -> tuple[int, int]:
    path.write_bytes(content)
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=width,height", "-of", "json"]
    done = subprocess.run([*command, str(path)], capture_output=True, check=True)
    [stream] = json.loads(done.stdout)["streams"]
    return stream["width"], stream["height"]


async def small_picture(client: Client, shortcode: str) -> bytes:
    """Wait for the post's small picture; return its bytes."""
    path = ""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            post = await (await client.get(f"/posts/{shortcode}")).json()
            if post["thumbnail_url"] != path:
                path = post["thumbnail_url"]
                content = await (await client.get(path)).read()
                if content != content_of("large.jpg"):
                    return content
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_large_picture_gets_a_small_one(
    instagram: StandIn, start_service: StartService, tmp_path: Path, when: str
) -> None:
    answers = {"best/1": [Answer("large.jpg")]}
    instagram.set_scenario("large", Scenario("", shape="photo", change=large, answers=answers))
    if when == "before":
        client = await start_service()
        await scrape(client, "large-one")
        await client.close()
    client = await start_service(**PLUGIN)
    await scrape(client, "large-one")
    content = await small_picture(client, "large-one")
    assert len(content) <= 25_000
    assert await asyncio.to_thread(size_of, content, tmp_path / "small.jpg") == (256, 320)
    post = await (await client.get("/posts/large-one")).json()
    assert len(post["media"]) == 1
    async with client.get("/download/large-one?archive=zip") as response:
        assert b"small.jpg" not in await response.read()


async def test_a_video_without_a_cover_gets_a_small_picture(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    def without_cover(media: dict[str, Any]) -> dict[str, Any]:
        media["image_versions2"]["candidates"] = []
        return media

    instagram.set_scenario("bare", Scenario("", change=without_cover))
    client = await start_service(**PLUGIN)
    await scrape(client, "bare-one")
    await post_with_audio(client, "bare-one")
    content = await small_picture(client, "bare-one")
    assert max(await asyncio.to_thread(size_of, content, tmp_path / "small.jpg")) <= 320


@pytest.mark.parametrize("name", ["picture.webp", "picture.png", "picture.gif", "movie.mov"])
def test_small_pictures_are_made_from_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("scrapper.library.post.SMALL_BYTES", 100)
    folder = tmp_path / "a-post"
    folder.mkdir()
    (tmp_path / ".incoming").mkdir()
    suffix = Path(name).suffix
    file = folder / f"a-post{suffix}"
    file.write_bytes(content_of(name))
    kind: Any = "video" if suffix == ".mov" else "image"
    item = MediaItem(kind, file.name, "", file.stat().st_size, None, None)
    post = Post("a-post", "", None, None, "", (item,))
    small = audio._Maker(audio._AudioSettings()).small_of(folder, post)
    assert small is not None
    content = (folder / small.filename).read_bytes()
    assert content.startswith(b"\xff\xd8\xff")
    assert len(content) == small.size <= 25_000
    assert not list((tmp_path / ".incoming").iterdir())
