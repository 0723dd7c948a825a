"""A real browser plays videos that were joined from a manifest's parts, with the sound in sync."""

from typing import Any

import pytest

from tests.browser.opening import NewPage
from tests.conftest import StartService
from tests.instagram.dash import CODE, SOUNDS, VIDEOS, Cdn, Stream

_PARTS = [Stream("video", height=1920), Stream("sound", "mp4a.40.2")]
# Measures brightness and loudness in the middle of each second. At the event `seeked`, a browser
# may still show the previous frame, or none, so this checks the frame's time.
_WATCH = """async url => {
    const video = document.createElement("video");
    const shown = () => {
        try {
            return new VideoFrame(video);
        } catch (error) {
            if (error.name !== "InvalidStateError") throw error;
            return null;
        }
    };
    video.src = url;
    await new Promise((done, fail) => { video.oncanplaythrough = done; video.onerror = () =>
        fail(Error(video.error.message)); });
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    const bytes = await (await fetch(url)).arrayBuffer();
    const sound = await new OfflineAudioContext(1, 44100, 44100).decodeAudioData(bytes);
    const samples = sound.getChannelData(0);
    const seconds = [];
    for (const second of [0, 1, 2, 3]) {
        video.currentTime = second + 0.5;
        await new Promise(done => { video.onseeked = done; });
        let frame = shown();
        while (!frame || Math.abs(frame.timestamp / 1e6 - second - 0.5) > 0.51) {
            frame?.close();
            await new Promise(done => setTimeout(done, 10));
            frame = shown();
        }
        canvas.drawImage(frame, 40, 70, 10, 10, 0, 0, 1, 1);
        frame.close();
        const begin = Math.round((second + 0.3) * sound.sampleRate);
        const loud = samples.slice(begin, begin + sound.sampleRate * 0.4)
            .reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
        seconds.push([canvas.getImageData(0, 0, 1, 1).data[0] > 128, loud > 0.1]);
    }
    video.currentTime = 0;
    video.muted = true;
    await video.play();
    return {seconds, duration: video.duration, width: video.videoWidth};
}"""


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("video", [*VIDEOS, "a frame a second"])
async def test_the_browser_plays_each_pair_in_sync(
    start_service: StartService, new_page: NewPage, cdn: Cdn, video: str, sound: str
) -> None:
    cdn.set_manifest(_PARTS, {"video": video, "sound": sound})
    client = await start_service()
    link = {"url": f"https://www.instagram.com/reel/{CODE}/", "quality": "best"}
    response = await client.post("/scrape", json=link)
    assert response.status == 200, await response.text()
    post = await response.json()
    assert "/video/" in post["cdn_url"]
    page = await new_page()
    await page.goto(str(client.make_url("/")))
    seen: Any = await page.evaluate(_WATCH, post["media"][0]["url"])
    dark, bright = [False, False], [True, True]
    assert seen["seconds"] == [dark, bright, dark, bright]
    assert seen["width"] == 90
    assert seen["duration"] == pytest.approx(4, abs=0.1)
