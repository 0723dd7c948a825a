"""DASH manifests in the captured format, with real videos and sounds made by ffmpeg."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

from tests.instagram.posts import CDN_HOSTS, signature
from tests.instagram.scenarios import Answer, Scenario
from tests.instagram.standin import StandIn

__all__ = [
    "CODE",
    "SOUNDS",
    "VIDEOS",
    "Cdn",
    "Stream",
    "make_stream",
    "make_streams",
    "manifest",
    "url_of",
]

CODE = "dash-one"
"""The shortcode of the post for which :class:`Cdn` sets a manifest."""

_FRAGMENTED = ("-movflags", "frag_keyframe+default_base_moof+dash+global_sidx", "-f", "mp4")
# The video is black and white in turn, and the sound is silence and a tone, a second each.
_FLASHES = (
    "color=black:size={size}:rate={rate}:duration=4,geq=lum='255*gte(mod(T,2),1)':cb=128:cr=128"
)
_BEEPS = "aevalsrc=exprs='0.5*sin(2*PI*440*t)*gte(mod(t,2),1)':sample_rate=44100:duration=4"

VIDEOS = {
    "h264": ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "0"),
    "h264 with B-frames": ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2"),
    "vp9": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "av1": ("-c:v", "libsvtav1", "-preset", "12"),
}
SOUNDS = {
    "aac": ("-c:a", "aac"),
    "opus": ("-c:a", "libopus"),
}


class Stream(NamedTuple):
    """A file in a manifest: the variant that its URL contains, and its attributes."""

    variant: str
    codecs: str = "avc1.64001f"
    height: int | None = None
    bandwidth: int | None = 1_000_000
    size: int | None = None

    @property
    def kind(self) -> str:
        return "video" if self.height else "audio"


def make_stream(
    path: Path, options: Sequence[str], *, size: str = "90x160", rate: int = 25
) -> Path:
    """Make a silent video or a sound, with the fragments and the index of a file on the CDN."""
    is_video = "-c:v" in options
    source = (_FLASHES if is_video else _BEEPS).format(size=size, rate=rate)
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", source, *options]
    if is_video:
        command += ["-pix_fmt", "yuv420p", "-g", str(rate)]
    subprocess.run([*command, *_FRAGMENTED, str(path)], check=True, capture_output=True)
    return path


def url_of(shortcode: str, variant: str, number: int = 1) -> str:
    """Return the signed URL of a file of the post."""
    path = f"/v/t50/{variant}/{shortcode}_{number}.mp4"
    return f"https://{CDN_HOSTS[0]}{path}?_nc_cat=101&oh={signature(path)}&oe=7FFFFFFF"


def manifest(shortcode: str, *streams: Stream, number: int = 1) -> str:
    """Return the manifest of a post's item."""
    sets = "".join(
        f'<AdaptationSet id="{index}" contentType="{kind}" subsegmentAlignment="true">'
        + "".join(
            _representation(shortcode, stream, number) for stream in streams if stream.kind == kind
        )
        + "</AdaptationSet>"
        for index, kind in enumerate(("video", "audio"))
        if any(stream.kind == kind for stream in streams)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT0H0M4.000S"><Period duration="PT0H0M4.000S">'
        f"{sets}</Period></MPD>"
    )


def _representation(shortcode: str, stream: Stream, number: int) -> str:
    values = {
        "id": f"{stream.variant}{stream.kind[0]}",
        "bandwidth": stream.bandwidth,
        "codecs": stream.codecs,
        "mimeType": f"{stream.kind}/mp4",
        "FBContentLength": stream.size,
        "width": stream.height and stream.height * 9 // 16,
        "height": stream.height,
        "frameRate": "24/24" if stream.height else None,
    }
    attributes = " ".join(
        f"{name}={quoteattr(str(value))}" for name, value in values.items() if value
    )
    url = url_of(shortcode, stream.variant, number).replace("&", "&amp;")
    return (
        f"<Representation {attributes}><BaseURL>{url}</BaseURL>"
        '<SegmentBase indexRange="818-897"><Initialization range="0-817"/></SegmentBase>'
        "</Representation>"
    )


def make_streams(folder: Path) -> Mapping[str, Path]:
    """Make the videos and sounds in *folder*; return their paths by name."""
    known = {**VIDEOS, **SOUNDS}
    made = {name: make_stream(folder / f"{name}.mp4", options) for name, options in known.items()}
    still = folder / "still.mp4"
    made["a frame a second"] = make_stream(still, VIDEOS["h264 with B-frames"], rate=1)
    made["in one piece"] = folder / "plain.mp4"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(made["h264 with B-frames"])]
    subprocess.run([*command, "-c", "copy", str(made["in one piece"])], check=True)
    made["with its sound"] = folder / "both.mp4"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(made["vp9"]), "-i", str(made["aac"])]
    subprocess.run([*command, "-c", "copy", *_FRAGMENTED, str(made["with its sound"])], check=True)
    made["large"] = make_stream(folder / "large.mp4", VIDEOS["h264"], size="360x640")
    return made


class Cdn:
    """Sets a post's manifest, and the CDN's answers; *streams* are real files."""

    def __init__(self, instagram: StandIn, streams: Mapping[str, Path]) -> None:
        self._instagram = instagram
        self.streams = streams

    def set_manifest(
        self,
        text: str | Sequence[Stream],
        answers: Mapping[str, Answer | str],
        *,
        shape: str = "video",
        number: int = 1,
        change: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        """Set the post's manifest, and the CDN's answer or stream for each variant in its URLs."""

        def with_manifest(media: dict[str, Any]) -> dict[str, Any]:
            item = media["carousel_media"][number - 1] if shape == "carousel" else media
            item["video_dash_manifest"] = (
                text if isinstance(text, str) else manifest(CODE, *text, number=number)
            )
            change(item)
            return media

        sent = {
            f"{variant}/{number}": [Answer(str(self.streams[one])) if isinstance(one, str) else one]
            for variant, one in answers.items()
        }
        scenario = Scenario("", shape=shape, change=with_manifest, answers=sent)
        self._instagram.set_scenario("dash", scenario)

    def damaged(self, name: str, damage: Callable[[bytes], bytes]) -> Answer:
        """Return an answer that sends a damaged stream completely."""
        content = self.streams[name].read_bytes()
        path = self.streams[name].with_name(f"damaged-{name}.mp4")
        path.write_bytes(damage(content))
        return Answer(str(path))

    def cut(self, name: str, only: int) -> Answer:
        """Return an answer that sends only the first *only* bytes of a stream."""
        return Answer(str(self.streams[name]), only=only)

    def size_of(self, name: str) -> int:
        """Return the size in bytes of a video and its sound together."""
        return sum(self.streams[one].stat().st_size for one in (name, "aac"))
