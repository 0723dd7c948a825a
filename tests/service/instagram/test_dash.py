"""The best quality, and the largest size that fits, from real files that ffmpeg made."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Client, StartService, stored_files
from tests.instagram import Answer, Scenario, StandIn
from tests.instagram.dash import SOUNDS, VIDEOS, Stream, make_stream, manifest

pytestmark = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="needs ffmpeg: on Debian, apt install ffmpeg"
)

POST = "https://www.instagram.com/p/{}/"
CODE = "dash-one"
GONE = Answer(status=404)
VIDEO = Stream("video", "avc1.64001f", 1920)
SOUND = Stream("sound", "mp4a.40.5")

Define = Callable[..., None]


@pytest.fixture(scope="session")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Videos and sounds by their names, in fragments, each made once."""
    folder = tmp_path_factory.mktemp("streams")
    known = {**VIDEOS, **SOUNDS}
    made = {name: make_stream(folder / f"{name}.mp4", options) for name, options in known.items()}
    still = folder / "still.mp4"
    made["a frame a second"] = make_stream(still, VIDEOS["h264 with B-frames"], rate=1)
    made["large"] = make_stream(folder / "large.mp4", VIDEOS["h264"], size="360x640")
    return made


@pytest.fixture
def define(instagram: StandIn) -> Define:
    """Give the post a manifest, and the CDN's answers by the variant in the URL."""

    def give(
        text: str | Sequence[Stream],
        answers: Mapping[str, Answer | Path],
        *,
        shape: str = "video",
        number: int = 1,
        more: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        def change(media: dict[str, Any]) -> dict[str, Any]:
            item = media["carousel_media"][number - 1] if shape == "carousel" else media
            item["video_dash_manifest"] = (
                text if isinstance(text, str) else manifest(CODE, *text, number=number)
            )
            more(item)
            return media

        sent = {
            f"{variant}/{number}": [Answer(str(one)) if isinstance(one, Path) else one]
            for variant, one in answers.items()
        }
        instagram.define("dash", Scenario("", shape=shape, change=change, answers=sent))

    return give


async def scrape(client: Client, **body: Any) -> tuple[int, dict[str, Any]]:
    async with client.post("/scrape", json={"url": POST.format(CODE), **body}) as response:
        return response.status, await response.json()


def probe(path: str) -> list[dict[str, Any]]:
    """What the real ffprobe says of each stream."""
    command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", path]
    done = subprocess.run(command, check=True, capture_output=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["streams"]
    return found


def changes(path: str, filters: str, pattern: str) -> list[float]:
    """When a filter of ffmpeg's notes something, in seconds."""
    command = ["ffmpeg", "-nostdin", "-i", path, *filters.split(), "-f", "null", "-"]
    noted = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return [float(moment) for moment in re.findall(pattern, noted)]


def without_progressive(media: dict[str, Any]) -> None:
    del media["video_versions"]


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("video", [*VIDEOS, "a frame a second"])
async def test_each_pair_is_joined_with_sound_in_step(
    start_service: StartService,
    define: Define,
    streams: Mapping[str, Path],
    media_root: Path,
    video: str,
    sound: str,
) -> None:
    define([VIDEO, SOUND], {"video": streams[video], "sound": streams[sound]})
    status, post = await scrape(await start_service(), quality="best")
    assert status == 200, post
    [item] = post["media"]
    codec = "h264" if video == "a frame a second" else video.partition(" ")[0]
    assert (item["codec"], item["width"], item["height"]) == (codec, 90, 160)
    assert item["size"] == Path(item["path"]).stat().st_size
    assert abs(item["bit_rate"] - 8 * item["size"] / 4) < 0.05 * item["bit_rate"]
    assert item["has_audio"]
    assert [stream["codec_name"] for stream in probe(item["path"])] == [codec, sound]
    dark = changes(item["path"], "-vf blackdetect=d=0.5:pix_th=0.2", r"black_end:([0-9.]+)")
    quiet = changes(item["path"], "-af silencedetect=d=0.5", r"silence_end: ([0-9.]+)")
    assert len(dark) >= 2
    assert dark[:2] == pytest.approx(quiet[:2], abs=0.05)
    assert stored_files(media_root) == {
        f"{CODE}/{name}" for name in ("post.json", f"{CODE}.mp4", f"{CODE}.jpg")
    }
