"""The best quality, and the largest file that fits, with real files made by ffmpeg."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Client, StartService, both_modes, metric_of, stored_files, until
from tests.instagram import Answer, Scenario, StandIn
from tests.instagram.dash import CODE, SOUNDS, VIDEOS, Cdn, Stream, manifest
from tests.instagram.posts import content_of
from tests.service.handlers.test_jobs import finish

pytestmark = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="needs ffmpeg: on Debian, apt install ffmpeg"
)

POST = "https://www.instagram.com/p/{}/"
GONE = Answer(status=404)
PROGRESSIVE = Answer("video.mp4")
HTML = Answer("text:<html>Log in</html>", "video/mp4")
LARGE = Answer("text:" + "x" * 3_000_000)
VIDEO = Stream("video", "avc1.64001f", 1920)
SOUND = Stream("sound", "mp4a.40.5")


async def scrape(client: Client, **body: Any) -> tuple[int, dict[str, Any]]:
    async with client.post("/scrape", json={"url": POST.format(CODE), **body}) as response:
        return response.status, await response.json()


def probe(path: str) -> list[dict[str, Any]]:
    """Return what ffprobe reports about each stream."""
    command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", path]
    done = subprocess.run(command, check=True, capture_output=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["streams"]
    return found


def reported_times(path: str, filters: str, pattern: str) -> list[float]:
    """Return the times, in seconds, that match *pattern* in the output of ffmpeg's *filters*."""
    command = ["ffmpeg", "-nostdin", "-i", path, *filters.split(), "-f", "null", "-"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return [float(moment) for moment in re.findall(pattern, output)]


def without_progressive(media: dict[str, Any]) -> None:
    del media["video_versions"]


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("video", [*VIDEOS, "a frame a second"])
async def test_every_pair_of_codecs_is_joined_in_sync(
    start_service: StartService, cdn: Cdn, media_root: Path, video: str, sound: str
) -> None:
    cdn.set_manifest([VIDEO, SOUND], {"video": video, "sound": sound})
    status, post = await scrape(await start_service(), quality="best")
    assert status == 200, post
    [item] = post["media"]
    codec = "h264" if video == "a frame a second" else video.partition(" ")[0]
    assert (item["codec"], item["width"], item["height"]) == (codec, 90, 160)
    assert abs(item["bit_rate"] - 8 * item["size"] / 4) < 0.05 * item["bit_rate"]
    assert item["has_audio"]
    assert [stream["codec_name"] for stream in probe(item["path"])] == [codec, sound]
    dark = reported_times(item["path"], "-vf blackdetect=d=0.5:pix_th=0.2", r"black_end:([0-9.]+)")
    quiet = reported_times(item["path"], "-af silencedetect=d=0.5", r"silence_end: ([0-9.]+)")
    assert len(dark) >= 2
    assert dark[:2] == pytest.approx(quiet[:2], abs=0.05)
    assert stored_files(media_root) == {
        f"{CODE}/{name}" for name in ("post.json", f"{CODE}.mp4", f"{CODE}.jpg")
    }


def half_a_second_late(content: bytes, *, units: int = 22_050) -> bytes:
    """Delay every fragment of a 44.1 kHz sound by *units* samples, by default half a second."""
    late = bytearray(content)
    for found in re.finditer(b"tfdt", content):
        wide = 8 if content[found.end()] else 4
        at = slice(found.end() + 4, found.end() + 4 + wide)
        late[at] = (int.from_bytes(content[at], "big") + units).to_bytes(wide, "big")
    return bytes(late)


@pytest.mark.parametrize("video", ["h264", "h264 with B-frames", "vp9"])
async def test_delay_of_the_sound_is_preserved(
    start_service: StartService, cdn: Cdn, video: str
) -> None:
    cdn.set_manifest(
        [VIDEO, SOUND], {"video": video, "sound": cdn.damaged("aac", half_a_second_late)}
    )
    _, post = await scrape(await start_service(), quality="best")
    assert "/video/" in post["cdn_url"]
    dark = reported_times(post["video"], "-vf blackdetect=d=0.5:pix_th=0.2", r"black_end:([0-9.]+)")
    quiet = reported_times(post["video"], "-af silencedetect=d=0.5", r"silence_end: ([0-9.]+)")
    assert quiet[-1] - dark[1] == pytest.approx(0.5, abs=0.05)


MANY = (
    Stream("v540", "vp09.00.30.08", 960),
    Stream("v720", "avc1.64001f", 1280),
    Stream("v1080", "av01.0.08M.08", 1920, 1_500_000),
    Stream("h1080", "avc1.640028", 1920, 1_400_000),
    Stream("low", "mp4a.40.5", bandwidth=48_000),
    Stream("sound", "mp4a.40.2", bandwidth=96_000),
)


async def test_h264_is_preferred_at_the_same_height(
    start_service: StartService, cdn: Cdn, instagram: StandIn
) -> None:
    cdn.set_manifest(MANY, {"h1080": "h264", "sound": "aac"})
    status, post = await scrape(await start_service(), quality="best")
    assert (status, post["media"][0]["codec"]) == (200, "h264")
    assert "/h1080/" in post["cdn_url"]
    # The video, its sound, and the cover.
    assert instagram.requests("media", CODE) == 3


async def test_compatible_quality_chooses_the_progressive_file(
    start_service: StartService, cdn: Cdn, instagram: StandIn
) -> None:
    cdn.set_manifest(MANY, {})
    status, post = await scrape(await start_service())
    assert (status, post["media"][0]["codec"]) == (200, "h264")
    assert "/best/" in post["cdn_url"]


def head(content: bytes) -> bytes:
    return content[: content.index(b"moof") - 4]


def repeated(content: bytes) -> bytes:
    """Change a video's edit list so that it plays the video two thousand times."""
    edits = 2_000 * ((4_000).to_bytes(4, "big") + bytes(4) + b"\0\1\0\0")
    at = content.index(b"elst")
    old = int.from_bytes(content[at - 4 : at], "big")
    new = bytes(4) + (2_000).to_bytes(4, "big") + edits
    made = bytearray(content[: at - 4] + (8 + len(new)).to_bytes(4, "big") + b"elst" + new)
    made += content[at - 4 + old :]
    for name in (b"edts", b"trak", b"moov"):
        start = content.index(name) - 4
        size = int.from_bytes(content[start : start + 4], "big") + 8 + len(new) - old
        made[start : start + 4] = size.to_bytes(4, "big")
    return bytes(made)


def encrypted(content: bytes) -> bytes:
    """Mark the samples of a part as encrypted."""
    return content.replace(b"avc1", b"encv").replace(b"mp4a", b"enca")


FAULTS: Mapping[str, Callable[[Cdn], Mapping[str, Answer | str]]] = {
    "the sound is gone": lambda _: {"sound": GONE},
    "the sound is a page": lambda _: {"sound": HTML},
    "the sound is a picture": lambda _: {"sound": Answer("photo.jpg", "audio/mp4")},
    "the sound is a video": lambda _: {"sound": "h264"},
    "the video is a sound": lambda _: {"video": "aac"},
    "the video is a picture": lambda _: {"video": Answer("photo.jpg", "video/mp4")},
    "the video is gone": lambda _: {"video": GONE},
    "the video is cut off": lambda cdn: {"video": cdn.cut("h264", 2_000)},
    "the sound is cut off": lambda cdn: {"sound": cdn.cut("aac", 6_000)},
    "the CDN has half of the video": lambda cdn: {
        "video": cdn.damaged("h264", lambda content: content[: len(content) // 2])
    },
    "the CDN has half of the sound": lambda cdn: {
        "sound": cdn.damaged("aac", lambda content: content[: len(content) // 2])
    },
    "the CDN has the head of the video": lambda cdn: {"video": cdn.damaged("h264", head)},
    "noise follows the head": lambda cdn: {
        "video": cdn.damaged("h264", lambda content: head(content) + b"\xff" * 50_000)
    },
    "the video repeats itself": lambda cdn: {"video": cdn.damaged("in one piece", repeated)},
    "the video is encrypted": lambda cdn: {"video": cdn.damaged("h264", encrypted)},
    "the sound is encrypted": lambda cdn: {"sound": cdn.damaged("aac", encrypted)},
    "the sound begins after a day": lambda cdn: {
        "sound": cdn.damaged("aac", partial(half_a_second_late, units=44_100 * 86_400))
    },
    "zeros follow the head": lambda cdn: {
        "video": cdn.damaged("h264", lambda content: head(content) + bytes(50_000))
    },
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_faulty_part_lowers_only_the_quality(
    start_service: StartService, cdn: Cdn, media_root: Path, fault: str
) -> None:
    answers = {"video": "h264", "sound": "aac", **FAULTS[fault](cdn), "best": PROGRESSIVE}
    cdn.set_manifest([VIDEO, SOUND], answers)
    status, post = await scrape(await start_service(), quality="best")
    assert (status, post.get("missing")) == (200, []), post
    assert "/best/" in post["cdn_url"]
    assert not any(".part" in name for name in stored_files(media_root))


async def test_codec_is_read_from_the_file(start_service: StartService, cdn: Cdn) -> None:
    cdn.set_manifest([VIDEO, SOUND], {"video": "vp9", "sound": "aac"})
    _, post = await scrape(await start_service(), quality="best")
    [item] = post["media"]
    assert (item["codec"], item["height"]) == ("vp9", 160)


async def test_manifest_without_sound_does_not_lose_the_sound(
    start_service: StartService, cdn: Cdn
) -> None:
    cdn.set_manifest([VIDEO], {"video": "h264", "best": PROGRESSIVE})
    _, post = await scrape(await start_service(), quality="best")
    assert post["media"][0]["has_audio"]
    assert "/best/" in post["cdn_url"]


async def test_stream_with_its_own_sound_keeps_it(start_service: StartService, cdn: Cdn) -> None:
    stream = VIDEO._replace(codecs="vp09.00.10.08,mp4a.40.2")
    cdn.set_manifest([stream], {"video": "with its sound"}, change=without_progressive)
    _, post = await scrape(await start_service(), quality="best")
    assert post["media"][0]["has_audio"]
    assert [stream["codec_name"] for stream in probe(post["video"])] == ["vp9", "aac"]


@pytest.mark.parametrize("fault", ["the sound is gone", "the sound is a page"])
async def test_failed_sound_is_replaced_by_another(
    start_service: StartService, cdn: Cdn, fault: str
) -> None:
    other = Stream("other", "opus", bandwidth=10)
    answers = {"video": "vp9", "other": "opus", **FAULTS[fault](cdn)}
    cdn.set_manifest([VIDEO, SOUND, other], answers, change=without_progressive)
    status, post = await scrape(await start_service(), quality="best")
    assert status == 200, post
    assert [stream["codec_name"] for stream in probe(post["video"])] == ["vp9", "opus"]


async def test_silent_video_needs_no_sound(start_service: StartService, cdn: Cdn) -> None:
    def silent(media: dict[str, Any]) -> None:
        media["has_audio"] = False

    cdn.set_manifest([VIDEO], {"video": "h264"}, change=silent)
    _, post = await scrape(await start_service(), quality="best")
    assert "/video/" in post["cdn_url"]
    assert [stream["codec_name"] for stream in probe(post["video"])] == ["h264"]


BOMB = '<!DOCTYPE MPD [<!ENTITY a "aaaaaaaaaa">{}]><MPD>&z;</MPD>'.format(
    "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(25))
)
HOSTILE = {
    "entities": BOMB,
    "an external entity": '<!DOCTYPE MPD [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    "<MPD><Period><AdaptationSet><Representation>&a;</Representation></AdaptationSet></Period></MPD>",
    "an external DTD": '<!DOCTYPE MPD SYSTEM "http://127.0.0.1:9/x.dtd"><MPD/>',
    "more than a megabyte": "<MPD>" + " " * 1_000_001 + "</MPD>",
    "nested elements": "<MPD>" + "<a>" * 100_000 + "</a>" * 100_000 + "</MPD>",
    "not XML": "x" * 1000,
    "cut off": manifest(CODE, VIDEO, SOUND)[:-200],
    "a page": "<html><body>Log in</body></html>",
    "many representations": manifest(
        CODE, *(Stream(f"v{number}", height=number) for number in range(1, 102)), SOUND
    ),
    "another host": manifest(CODE, VIDEO, SOUND).replace("cdninstagram.com", "example.com"),
    "this machine": manifest(CODE, VIDEO, SOUND).replace(
        "https://scontent-lhr8-1.cdninstagram.com", "https://127.0.0.1:1"
    ),
    "files of this machine": re.sub("https://[^/]*", "file://", manifest(CODE, VIDEO, SOUND)),
    "no TLS": manifest(CODE, VIDEO, SOUND).replace("https:", "http:"),
    "two periods": manifest(CODE, VIDEO, SOUND).replace("</MPD>", "<Period/></MPD>"),
    "a live video": manifest(CODE, VIDEO, SOUND).replace("static", "dynamic"),
    "a lone surrogate": manifest(CODE, VIDEO, SOUND).replace("/video/", "/\ud83c/"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_manifest_lowers_only_the_quality(
    start_service: StartService, cdn: Cdn, name: str
) -> None:
    cdn.set_manifest(HOSTILE[name], {"best": PROGRESSIVE})
    status, post = await scrape(await start_service(), quality="best")
    assert (status, post.get("missing")) == (200, []), post
    assert "/best/" in post["cdn_url"]


@pytest.mark.parametrize("name", ["entities", "not XML", "another host", "many representations"])
async def test_slide_with_only_a_hostile_manifest_is_missing(
    start_service: StartService, cdn: Cdn, name: str
) -> None:
    cdn.set_manifest(HOSTILE[name], {}, shape="carousel", number=2, change=without_progressive)
    status, post = await scrape(await start_service(), quality="best")
    assert (status, post["missing"]) == (200, [2])


PLAIN = manifest(CODE, VIDEO, SOUND)
FORMS = {
    "single quotes": re.sub('="([^"]*)"', r"='\1'", PLAIN),
    "a prefix": re.sub("<(/?)([A-Z])", r"<\1dash:\2", PLAIN).replace("xmlns=", "xmlns:dash="),
    "other entities": PLAIN.replace("&amp;", "&#x26;"),
    "sections": re.sub(
        "<BaseURL>(.*?)</BaseURL>",
        lambda found: f"<BaseURL><![CDATA[{found[1].replace('&amp;', '&')}]]></BaseURL>",
        PLAIN,
    ),
    "a wrong encoding declaration": PLAIN.replace("UTF-8", "UTF-16"),
    "leading white space": f"\n {PLAIN}",
    "the same id for all": re.sub(' id="[^"]*"', ' id="1"', PLAIN),
    "no types": re.sub(' (contentType|mimeType)="[^"]*"', "", PLAIN),
    "no height": re.sub(' height="[^"]*"', "", PLAIN),
    "no codecs, no bit rates": re.sub(' (codecs|bandwidth)="[^"]*"', "", PLAIN),
}


@pytest.mark.parametrize("form", FORMS)
async def test_manifest_in_another_form_is_read(
    start_service: StartService, cdn: Cdn, form: str
) -> None:
    cdn.set_manifest(FORMS[form], {"video": "h264", "sound": "aac"})
    _, post = await scrape(await start_service(), quality="best")
    assert "/video/" in post["cdn_url"]


# ---- videos in parts, and without ffmpeg


@pytest.mark.parametrize("quality", ["compatible", "best"])
async def test_video_available_only_in_parts_is_joined(
    start_service: StartService, cdn: Cdn, quality: str
) -> None:
    parts = {"v720": "h264", "h1080": "h264", "v1080": "av1"}
    cdn.set_manifest(MANY, {**parts, "sound": "aac"}, change=without_progressive)
    status, post = await scrape(await start_service(), quality=quality)
    assert (status, post["media"][0]["codec"]) == (200, "h264"), post


@pytest.mark.parametrize("fault", [GONE, Answer(status=403), Answer(status=500), HTML])
async def test_parts_replace_a_failed_progressive_file(
    start_service: StartService, cdn: Cdn, fault: Answer
) -> None:
    parts = {"v720": "h264", "sound": "aac"}
    cdn.set_manifest(MANY, {**parts, "best": fault, "small": fault, "v1080": GONE, "h1080": GONE})
    status, post = await scrape(await start_service())
    assert (status, post.get("missing")) == (200, []), post
    assert "/v720/" in post["cdn_url"]


async def test_without_ffmpeg_a_failed_file_has_its_own_error(
    start_service: StartService, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("fetch", "post"):
        monkeypatch.setattr(f"scrapper.instagram.files.{module}.missing_programs", lambda: ["x"])
    cdn.set_manifest(MANY, {"best": GONE, "small": GONE})
    status, post = await scrape(await start_service())
    assert (status, post["code"]) == (404, "post_not_found")


@pytest.mark.parametrize("missing", ["ffmpeg", "prlimit"])
async def test_error_without_ffmpeg_says_what_to_install(
    start_service: StartService, cdn: Cdn, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr("scrapper.instagram.files.fetch.missing_programs", lambda: [missing])
    cdn.set_manifest([VIDEO, SOUND], {}, change=without_progressive)
    status, post = await scrape(await start_service())
    assert (status, post["code"]) == (502, "ffmpeg_missing")
    assert "install ffmpeg" in post["error"]


async def test_best_without_ffmpeg_chooses_the_progressive_file(
    start_service: StartService, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.instagram.files.fetch.missing_programs", lambda: ["ffmpeg"])
    cdn.set_manifest([VIDEO, SOUND], {})
    client = await start_service()
    status, post = await scrape(client, quality="best")
    assert (status, "/best/" in post["cdn_url"]) == (200, True)
    assert (await scrape(client, quality="best"))[1]["cached"]


async def test_slide_in_parts_is_missing_without_ffmpeg(
    start_service: StartService, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.instagram.files.fetch.missing_programs", lambda: ["ffmpeg"])
    cdn.set_manifest([VIDEO, SOUND], {}, shape="carousel", number=2, change=without_progressive)
    status, post = await scrape(await start_service())
    assert (status, post["missing"]) == (200, [2])


@pytest.mark.parametrize("script", ["exec sleep 600", "kill -9 $$", "exit 1", ":"])
async def test_failing_ffmpeg_lowers_only_the_quality(
    start_service: StartService,
    cdn: Cdn,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    script: str,
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    cdn.set_manifest([VIDEO, SOUND], {"video": "h264", "sound": "aac", "best": PROGRESSIVE})
    client = await start_service(SCRAPE_TIMEOUT_SECONDS="5")
    status, post = await scrape(client, quality="best")
    assert status == 200, post
    assert "/best/" in post["cdn_url"]


# ---- size limits


PARTS: Mapping[str, str] = {"large": "large", "small": "h264", "sound": "aac"}


def sized(cdn: Cdn, *, declared: bool = True) -> Sequence[Stream]:
    """Return two videos and a sound, with their sizes in the manifest if *declared*."""
    heights = {"large": 1920, "small": 960, "sound": None}
    sizes = {variant: cdn.streams[name].stat().st_size for variant, name in PARTS.items()}
    return [
        Stream(variant, "avc1", height, size=sizes[variant] if declared else None)
        for variant, height in heights.items()
    ]


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("quality", ["best", "compatible"])
@pytest.mark.parametrize("fits", ["large", "h264"])
async def test_largest_file_that_fits_is_chosen(
    start_service: StartService,
    cdn: Cdn,
    declared: bool,
    quality: str,
    fits: str,
) -> None:
    # The progressive file never fits.
    cdn.set_manifest(sized(cdn, declared=declared), {**PARTS, "best": LARGE})
    most = (cdn.size_of(fits) + 500) / 1_000_000
    status, post = await scrape(await start_service(), quality=quality, max_mb=most)
    assert status == 200, post
    [item] = post["media"]
    assert item["size"] <= most * 1_000_000
    assert item["height"] == (640 if fits == "large" else 160)


async def test_error_states_the_smallest_size_if_none_fits(
    start_service: StartService, cdn: Cdn, media_root: Path
) -> None:
    cdn.set_manifest(sized(cdn), {**PARTS, "best": LARGE})
    client = await start_service()
    status, error = await scrape(client, max_mb=0.001)
    smallest = cdn.size_of("h264")
    assert (status, error["code"], error["smallest_size"]) == (422, "media_too_large", smallest)
    assert re.search(r"0\.[0-9]+ MB", error["error"])
    assert stored_files(media_root) == set()
    params = {"url": POST.format(CODE), "max_mb": "0.001"}
    assert (await client.get("/download", params=params)).status == 422
    params["max_mb"] = str((smallest + 500) / 1_000_000)
    response = await client.get("/download", params=params)
    assert (response.status, (response.content_length or 0) <= smallest + 500) == (200, True)


async def test_size_limit_of_the_service_applies_too(start_service: StartService, cdn: Cdn) -> None:
    cdn.set_manifest(
        [Stream("h1080", "avc1", 1920), SOUND],
        {"h1080": "h264", "sound": "aac", "best": LARGE},
    )
    client = await start_service(MAX_MEDIA_MB="1")
    status, post = await scrape(client, max_mb=500)
    assert (status, "/h1080/" in post["cdn_url"]) == (200, True)


async def test_smaller_picture_is_chosen_too(
    start_service: StartService, instagram: StandIn
) -> None:
    answers = {"best/1": [Answer("large.jpg")], "small/1": [Answer("preview.jpg")]}
    instagram.set_scenario("dash", Scenario("", shape="photo", answers=answers))
    sizes = [len(content_of(name)) for name in ("large.jpg", "preview.jpg")]
    most = (min(sizes) + 1) / 1_000_000
    status, post = await scrape(await start_service(), max_mb=most)
    assert (status, post["media"][0]["size"]) == (200, min(sizes))


@pytest.mark.parametrize(
    "body", [*({"max_mb": wrong} for wrong in (0, -1, "8", True, 1e9, [8])), {"quality": "none"}]
)
async def test_invalid_size_or_quality_is_refused(
    start_service: StartService, body: dict[str, Any]
) -> None:
    status, error = await scrape(await start_service(), **body)
    assert (status, error["code"]) == (400, "invalid_body")


@pytest.mark.parametrize("query", ["max_mb=0", "max_mb=nan", "max_mb=x", "quality=good"])
async def test_invalid_query_parameter_is_refused(start_service: StartService, query: str) -> None:
    client = await start_service()
    response = await client.get(f"/download?url={POST.format(CODE)}&{query}")
    assert (response.status, (await response.json())["code"]) == (400, "invalid_parameter")


# ---- a stored post, requested with other options


async def test_compatible_post_is_fetched_once_more_for_best(
    start_service: StartService,
    cdn: Cdn,
    instagram: StandIn,
    media_root: Path,
) -> None:
    cdn.set_manifest([VIDEO, SOUND], {"video": "h264", "sound": "aac"})
    client = await start_service()
    assert "/best/" in (await scrape(client))[1]["cdn_url"]
    _, post = await scrape(client, quality="best")
    assert ("/video/" in post["cdn_url"], post["cached"]) == (True, False)
    assert json.loads((media_root / CODE / "post.json").read_text())["quality"] == "best"
    for body in ({"quality": "best"}, {}, {"quality": "compatible"}):
        assert (await scrape(client, **body))[1]["cached"], body
    assert instagram.requests("graphql", CODE) == 2


async def test_best_without_a_manifest_is_not_fetched_again(
    start_service: StartService, instagram: StandIn
) -> None:
    client = await start_service()
    instagram.set_scenario("dash", Scenario(""))
    for cached in (False, True, True):
        assert (await scrape(client, quality="best"))[1]["cached"] is cached


async def test_pictures_satisfy_any_quality(
    start_service: StartService, instagram: StandIn
) -> None:
    client = await start_service()
    instagram.set_scenario("dash", Scenario("", shape="photo"))
    await scrape(client)
    assert (await scrape(client, quality="best"))[1]["cached"]


async def test_post_in_vp9_is_fetched_again_for_compatible(
    start_service: StartService, cdn: Cdn
) -> None:
    cdn.set_manifest([VIDEO, SOUND], {"video": "vp9", "sound": "aac"})
    client = await start_service()
    assert (await scrape(client, quality="best"))[1]["media"][0]["codec"] == "vp9"
    _, post = await scrape(client, quality="compatible")
    assert (post["cached"], post["media"][0]["codec"]) == (False, "h264")


@pytest.mark.parametrize("body", [{"quality": "best"}, {"max_mb": 0.01}])
async def test_stored_post_is_returned_if_a_refetch_fails(
    start_service: StartService, instagram: StandIn, body: dict[str, Any]
) -> None:
    client = await start_service(INSTAGRAM_COOLDOWN_SECONDS="60")
    instagram.set_scenario("dash", Scenario(""))
    await scrape(client)
    for source in ("api", "root", "web", "page", "embed"):
        instagram.override_answer(source, "servererror")
    for _ in range(2):
        status, post = await scrape(client, **body)
        assert (status, post["cached"], post["stale"]) == (200, True, True)
    status, post = await scrape(client)
    assert (status, post["cached"], post["stale"]) == (200, True, False)


async def test_size_limit_holds_whatever_is_stored(start_service: StartService, cdn: Cdn) -> None:
    cdn.set_manifest(
        [Stream("large", "avc1", 1920), Stream("small", "avc1", 960), SOUND],
        {"large": "large", "small": "h264", "sound": "aac"},
    )
    client = await start_service(VIDEO_QUALITY="best")
    _, large = await scrape(client)
    assert large["media"][0]["height"] == 640
    most = (cdn.size_of("h264") + 500) / 1_000_000
    _, small = await scrape(client, max_mb=most)
    assert (small["cached"], small["media"][0]["height"]) == (False, 160)
    assert (await scrape(client, max_mb=most))[1]["cached"]
    status, error = await scrape(client, max_mb=0.001)
    assert (status, error["code"]) == (422, "media_too_large")
    # A request without a limit downloads the large file again.
    _, again = await scrape(client)
    assert (again["cached"], again["media"][0]["height"]) == (False, 640)
    assert (await scrape(client))[1]["cached"]
    assert (await scrape(client, max_mb=500))[1]["cached"]


async def test_size_limit_holds_for_old_files_of_a_carousel(
    start_service: StartService, instagram: StandIn
) -> None:
    instagram.set_scenario(
        "dash", Scenario("", shape="carousel", answers={"best/2": [PROGRESSIVE]})
    )
    client = await start_service()
    _, post = await scrape(client)
    sizes = [item["size"] for item in post["media"]]
    assert len(sizes) == 3
    most = max(sizes) - 1
    status, small = await scrape(client, max_mb=most / 1_000_000)
    assert (status, small["missing"]) == (200, [sizes.index(max(sizes)) + 1])
    assert all(item["size"] <= most for item in small["media"])
    assert [item["size"] for item in (await scrape(client))[1]["media"]] == sizes


@both_modes
async def test_job_accepts_quality_and_size(start_service: StartService, cdn: Cdn) -> None:
    cdn.set_manifest([VIDEO, SOUND], {"video": "h264", "sound": "aac"})
    client = await start_service()

    async def job(**body: Any) -> dict[str, Any]:
        created = await client.post("/jobs", json={"urls": [POST.format(CODE)], **body})
        assert created.status == 202, await created.text()
        [post] = (await finish(client, await created.json()))["posts"]
        return dict(post)

    await job()
    assert (await job(quality="best"))["status"] == 200
    post = await (await client.get(f"/posts/{CODE}")).json()
    assert "/video/" in post["cdn_url"]
    failed = await job(max_mb=0.001)
    assert (failed["status"], failed["code"]) == (422, "media_too_large")


async def test_clients_with_different_options_share_no_files(
    start_service: StartService, cdn: Cdn, instagram: StandIn
) -> None:
    cdn.set_manifest([VIDEO, SOUND], {"video": "vp9", "sound": "aac"})
    client = await start_service()
    instagram.hold()
    bodies: list[dict[str, Any]] = [
        {},
        {"quality": "best"},
        {"max_mb": 0.001},
        {"quality": "best"},
        {},
    ]
    scrapes = [asyncio.create_task(scrape(client, **body)) for body in bodies]
    await until(lambda: metric_of(client, "scrape_flights_joined_total") == 4)
    instagram.release()
    plain, best, small, again, last = await asyncio.gather(*scrapes)
    assert {answer[1]["media"][0]["codec"] for answer in (plain, last)} == {"h264"}
    assert {answer[1]["media"][0]["codec"] for answer in (best, again)} == {"vp9"}
    assert small[0] == 422
