"""The posts: their files, their signed CDN URLs, and their description as the API gives it."""

import hashlib
import hmac
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.instagram.scenarios import scenario_of

__all__ = ["CDN_HOST", "WEB_INFO", "File", "Posts", "web_info"]

CDN_HOST = "scontent-lhr8-1.cdninstagram.com"
WEB_INFO = "xdt_api__v1__media__shortcode__web_info"

_MEDIA = Path(__file__).with_name("media")
_SIGNING_KEY = b"the CDN's own"
_DAY = 24 * 60 * 60
_BIG_BYTES = 20_000_000
_SLOW_BYTES = 2_000_000
_IMAGE, _VIDEO, _CAROUSEL = 1, 2, 8
_CAPTIONS = {
    "nocaption": None,
    "halfemoji": "Sun \ud83c",
    "emoji": (
        'Sun \U0001f31e & "sea" \U0001f30a\n\n'
        "\u05e9\u05dc\u05d5\u05dd \U0001f469\u200d\U0001f680 <b>"
    ),
}


class File(NamedTuple):
    """A file of a post: what the CDN answers for it."""

    content: bytes
    content_type: str
    suffix: str


class Posts:
    """The files of every post; *reel_bytes* is the size that reels are padded to."""

    def __init__(self, reel_bytes: int | None) -> None:
        video = (_MEDIA / "video.mp4").read_bytes()
        self._video = File(video, "video/mp4", "mp4")
        self._reel = File(_padded(video, reel_bytes or len(video)), "video/mp4", "mp4")
        self._big = File(_padded(video, _BIG_BYTES), "video/mp4", "mp4")
        self._slow = File(_padded(video, _SLOW_BYTES), "video/mp4", "mp4")
        self._photo = File((_MEDIA / "photo.jpg").read_bytes(), "image/jpeg", "jpg")
        self._second_photo = File((_MEDIA / "photo2.jpg").read_bytes(), "image/jpeg", "jpg")
        self._webp = File((_MEDIA / "picture.webp").read_bytes(), "image/webp", "webp")

    def files(self, shortcode: str) -> list[File]:
        """The media of the post, in order."""
        match scenario_of(shortcode):
            case "photo":
                return [self._photo]
            case "webp":
                return [self._webp]
            case "carousel" | "carouselcut" | "noitemurl":
                return [self._photo, self._video, self._second_photo]
            case "reel":
                return [self._reel]
            case "big" | "bigchunked":
                return [self._big]
            case "slow":
                return [self._slow]
            case _:
                return [self._video]

    def cover(self) -> File:
        """The cover picture of every video."""
        return self._second_photo

    def describe(self, shortcode: str) -> dict[str, Any]:
        """The post as the API has it."""
        scenario, files = scenario_of(shortcode), self.files(shortcode)
        media: dict[str, Any] = {
            "code": shortcode,
            "pk": "3456789012345678901",
            "id": "3456789012345678901_1",
            "taken_at": 1_768_478_400,
            "user": {"pk": "1", "id": "1", "username": "someone", "full_name": "Some One"},
            "caption": {"text": _CAPTIONS.get(scenario, f"A caption for {shortcode}")},
            "like_count": 5,
            "comment_count": 0,
            "has_liked": False,
        }
        if media["caption"]["text"] is None:
            media["caption"] = None
        if len(files) > 1:
            media["media_type"] = _CAROUSEL
            media["image_versions2"] = self._image(shortcode, 1, scenario)
            media["carousel_media"] = [
                {"pk": str(number), "code": None, **self._item(shortcode, number, file, scenario)}
                for number, file in enumerate(files, start=1)
            ]
        else:
            media |= self._item(shortcode, 1, files[0], scenario)
        match scenario:
            case "unknowntype":
                media["media_type"] = 77
            case "nouser":
                del media["user"]
            case "nocode":
                del media["code"]
            case "changed":
                media["code"] = "another-one"
            case "novideo":
                del media["video_versions"]
            case "noitemurl":
                media["carousel_media"][2]["image_versions2"]["candidates"] = []
        return media

    def _item(self, shortcode: str, number: int, file: File, scenario: str) -> dict[str, Any]:
        if file.suffix != "mp4":
            images = self._image(shortcode, number, scenario, file.suffix)
            return {"media_type": _IMAGE, "image_versions2": images, "video_versions": None}
        url = _url(f"{shortcode}_{number}.mp4", scenario)
        return {
            "media_type": _VIDEO,
            "image_versions2": self._image(shortcode, number, scenario),
            "video_versions": [{"type": 101, "url": url, "width": 180, "height": 320}],
            "video_duration": 1.0,
            "original_width": 180,
            "original_height": 320,
        }

    def _image(
        self, shortcode: str, number: int, scenario: str, suffix: str = "jpg"
    ) -> dict[str, Any]:
        url = _url(f"{shortcode}_{number}.{suffix}", scenario)
        return {"candidates": [{"url": url, "width": 320, "height": 400}]}


def web_info(*items: dict[str, Any]) -> dict[str, Any]:
    """The data of an answer with *items*."""
    return {WEB_INFO: {"items": list(items)}}


def signature(path: str) -> str:
    """What the CDN wants to see in ``oh`` for *path*."""
    return hmac.new(_SIGNING_KEY, path.encode(), hashlib.sha256).hexdigest()[:32]


def _url(name: str, scenario: str) -> str:
    path = f"/v/t50/{name}"
    if scenario == "offsite":
        return f"https://example.com{path}"
    url = f"https://{CDN_HOST}{path}?stp=dst-mp4&oh={signature(path)}"
    match scenario:
        case "unsigned":
            return url
        case "expired":
            return f"{url}&oe={int(time.time()) - _DAY:X}"
        case _:
            return f"{url}&oe={int(time.time()) + 3 * _DAY:X}"


def _padded(video: bytes, size: int) -> bytes:
    """*video* with a ``free`` box behind it (ISO 14496-12, 8.1.2), which players skip."""
    room = size - len(video)
    return video if room < 8 else video + room.to_bytes(4, "big") + b"free" + bytes(room - 8)
