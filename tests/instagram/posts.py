"""The posts: their files, their signed CDN URLs, and their media objects in Instagram's format."""

import hashlib
import hmac
from pathlib import Path
from typing import Any, NamedTuple

from tests.instagram.scenarios import Scenario

__all__ = ["CDN_HOSTS", "File", "Posts", "content_of", "media_id", "shortcode_of", "signature"]

CDN_HOSTS = ("scontent-lhr8-1.cdninstagram.com", "instagram.fber1-1.fna.fbcdn.net")

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_MEDIA = Path(__file__).with_name("media")
_SIGNING_KEY = b"the CDN's own"
_BIG_BYTES = 20_000_000
_SLOW_BYTES = 2_000_000
_PRIVATE_KEY_LENGTH = 28
_IMAGE, _VIDEO, _CAROUSEL = 1, 2, 8
_CAPTIONS = {
    "nocaption": None,
    "linked": "By @some.one. and @b_2, #Grün #2026: https://example.com/a?b=(c). mail@example.com",
    "halfemoji": "Sun \ud83c",
    "emoji": (
        'Sun \U0001f31e & "sea" \U0001f30a\n\n'
        "\u05e9\u05dc\u05d5\u05dd \U0001f469\u200d\U0001f680 <b>"
    ),
    "longcaption": "x" * 200_000,
}
_SIDE_DATA = (
    "caption",
    "location",
    "clips_metadata",
    "usertags",
    "coauthor_producers",
    "like_count",
    "comment_count",
    "taken_at",
    "product_type",
    "accessibility_caption",
    "has_audio",
    "video_duration",
    "original_width",
    "original_height",
)


class File(NamedTuple):
    """A file of a post, as the CDN sends it."""

    content: bytes
    content_type: str
    suffix: str


def content_of(name: str) -> bytes:
    """Return the content of a file in the folder ``media``, or the text after ``text:``."""
    return name[5:].encode() if name.startswith("text:") else (_MEDIA / name).read_bytes()


def media_id(code: str) -> int:
    """Return the media ID that a shortcode encodes."""
    number = 0
    for letter in code:
        number = number * 64 + _ALPHABET.index(letter)
    return number


def shortcode_of(number: int) -> str:
    """Return the shortcode that encodes a media ID."""
    code = ""
    while number:
        number, digit = divmod(number, 64)
        code = _ALPHABET[digit] + code
    return code


class Posts:
    """The files and media objects of all posts. Reels are padded to *reel_bytes*."""

    def __init__(self, reel_bytes: int | None) -> None:
        video = (_MEDIA / "video.mp4").read_bytes()
        self._video = File(video, "video/mp4", "mp4")
        self._reel = File(_padded(video, reel_bytes or len(video)), "video/mp4", "mp4")
        contents = {
            "big": _padded(video, _BIG_BYTES),
            "slow": _padded(video, _SLOW_BYTES),
            "vp9": (_MEDIA / "vp9.mp4").read_bytes(),
            "mute": (_MEDIA / "silent.mp4").read_bytes(),
        }
        self._videos = {
            shape: File(content, "video/mp4", "mp4") for shape, content in contents.items()
        }
        self._photo = File((_MEDIA / "photo.jpg").read_bytes(), "image/jpeg", "jpg")
        self._second_photo = File((_MEDIA / "photo2.jpg").read_bytes(), "image/jpeg", "jpg")
        self._webp = File((_MEDIA / "picture.webp").read_bytes(), "image/webp", "webp")

    def files(self, shape: str) -> list[File]:
        """Return the files of a post of this *shape*, in order."""
        match shape:
            case "photo" | "unsorted" | "crops":
                return [self._photo]
            case "webp":
                return [self._webp]
            case "carousel" | "noitemurl":
                return [self._photo, self._video, self._second_photo]
            case "ten" | "twenty":
                return [self._photo] * (10 if shape == "ten" else 20)
            case "reel":
                return [self._reel]
            case _:
                return [self._videos.get(shape, self._video)]

    def cover(self) -> File:
        """Return the cover of every video. It is also sent for all candidates except the best."""
        return self._second_photo

    def describe(
        self, shortcode: str, scenario: Scenario, *, whole: bool = False
    ) -> dict[str, Any]:
        """Return the post's media object; with *whole*, no file is missing."""
        shape = "carousel" if whole and scenario.shape == "noitemurl" else scenario.shape
        code = shortcode[:-_PRIVATE_KEY_LENGTH] if len(shortcode) > 33 else shortcode
        files = self.files(shape)
        text = _CAPTIONS.get(shape, f"A caption for {shortcode}")
        media: dict[str, Any] = {
            "__typename": "XIGPolarisVideoMedia",
            "user": {
                "pk": "100",
                "id": "17840000000000001",
                "username": "someone",
                "full_name": "Some One",
                "is_private": False,
            },
            "pk": str(media_id(code)),
            "id": f"POLARIS_{media_id(code)}",
            "code": code,
            "taken_at": 1_768_478_400,
            "product_type": "clips",
            "coauthor_producers": [{"pk": "200", "username": "co.author", "full_name": "Co"}],
            "location": {"pk": "300", "name": "Some Place"},
            "clips_metadata": {
                "music_info": None,
                "original_sound_info": {
                    "original_audio_title": "Original audio",
                    "ig_artist": {"username": "someone", "id": "100"},
                },
            },
            "usertags": {"in": [{"user": {"username": "tagged.one"}, "position": [0.5, 0.5]}]},
            "like_count": 1234,
            "like_and_view_counts_disabled": False,
            "comment_count": 56,
            "caption": None if text is None else {"pk": "400", "text": text},
            "display_uri": self._url(shortcode, 1, "thumb", "jpg", shape),
        }
        if len(files) > 1:
            media |= {
                "__typename": "XIGPolarisCarouselMedia",
                "media_type": _CAROUSEL,
                "product_type": "carousel_container",
                "image_versions2": self._images(shortcode, 1, shape, sized=True),
                "carousel_media_count": len(files),
                "carousel_media": [
                    self._child(shortcode, number, file, shape)
                    for number, file in enumerate(files, start=1)
                ],
            }
        else:
            media |= self._item(shortcode, 1, files[0], shape, sized=True)
            if files[0].suffix != "mp4":
                media |= {"__typename": "XIGPolarisImageMedia", "product_type": "feed"}
        return _with_quirks(media, shape)

    def stub(self, shortcode: str) -> dict[str, Any]:
        """Return the stub of a post, without media, as a page has it in the owner's timeline."""
        return {
            "pk": str(media_id(shortcode)),
            "code": shortcode,
            "media_type": _VIDEO,
            "caption": {"text": "A caption."},
            "display_uri": f"https://{CDN_HOSTS[0]}/v/t50/thumb/x.jpg?stp=dst-jpg_e35_s640x640_tt6",
            "user": {"pk": "100", "username": "someone", "id": "17840000000000001"},
        }

    def _child(self, shortcode: str, number: int, file: File, shape: str) -> dict[str, Any]:
        return {
            "__typename": f"XIGPolaris{'Video' if file.suffix == 'mp4' else 'Image'}Media",
            "code": f"DChild{number:05}",
            "pk": str(media_id(shortcode[:5]) + number),
            "user": {"username": "someone", "id": "17840000000000001"},
            "accessibility_caption": f"Alt text {number}.",
            "usertags": {"in": []},
            "taken_at": 1_768_478_400,
            "like_count": 0,
            **self._item(shortcode, number, file, shape, sized=False),
        }

    def _item(
        self, shortcode: str, number: int, file: File, shape: str, *, sized: bool
    ) -> dict[str, Any]:
        if file.suffix != "mp4":
            images = self._images(shortcode, number, shape, suffix=file.suffix, sized=sized)
            return {
                "media_type": _IMAGE,
                "image_versions2": images,
                "original_width": 320,
                "original_height": 400,
            }
        versions = [
            {
                "type": 101,
                "url": self._url(shortcode, number, "best", "mp4", shape),
                "width": 180,
                "height": 320,
            }
        ]
        if shape == "unsortedvideo":
            small = self._url(shortcode, number, "small", "mp4", shape)
            versions.insert(0, {"type": 102, "url": small, "width": 90, "height": 160})
        return {
            "media_type": _VIDEO,
            "image_versions2": self._images(shortcode, number, shape, sized=sized),
            "video_versions": versions,
            "video_dash_manifest": None,
            "number_of_qualities": 1,
            "has_audio": True,
            "video_duration": 1.0,
            "original_width": 180,
            "original_height": 320,
        }

    def _images(
        self, shortcode: str, number: int, shape: str, *, suffix: str = "jpg", sized: bool
    ) -> dict[str, Any]:
        """Return Instagram's candidates: the whole picture, a smaller one, and a square crop."""
        candidates: list[dict[str, Any]] = [
            {
                "url": self._url(shortcode, number, "best", suffix, shape),
                "width": 320,
                "height": 400,
            },
            {
                "url": self._url(shortcode, number, "small", "jpg", shape),
                "width": 160,
                "height": 200,
            },
            {
                "url": self._url(shortcode, number, "crop", "jpg", shape),
                "width": 1080,
                "height": 1080,
            },
        ]
        if not sized:
            candidates = [{"url": candidate["url"]} for candidate in candidates]
        if shape == "unsorted":
            candidates.insert(0, candidates.pop(1))
        if shape == "crops":
            candidates = [candidates[2], candidates[0]]
        return {"candidates": candidates, "additional_candidates": None}

    def _url(self, shortcode: str, number: int, variant: str, suffix: str, shape: str) -> str:
        path = f"/v/t50/{variant}/{shortcode}_{number}.{suffix}"
        if shape == "offsite":
            return f"https://example.com{path}"
        stp = {
            "best": "dst-jpg_e35_tt6",
            "small": "dst-jpg_e35_p720x720_tt6",
            "crop": "c0.420.1080.1080a_dst-jpg_e15_s1080x1080_tt6",
        }.get(variant, "dst-jpg_s640x640")
        host = CDN_HOSTS[number % len(CDN_HOSTS)] if shape == "twenty" else CDN_HOSTS[0]
        url = f"https://{host}{path}?stp={stp}&oh={signature(path)}"
        match shape:
            case "unsigned":
                return url
            case "expired":
                return f"{url}&oe=60000000"
            case _:
                # The expiry is constant, so that each description has the same URLs.
                return f"{url}&oe=7FFFFFFF"


def _with_quirks(media: dict[str, Any], shape: str) -> dict[str, Any]:
    match shape:
        case "unknowntype":
            media["media_type"] = 77
        case "nouser":
            del media["user"]
        case "nocode":
            del media["code"]
        case "changed":
            media |= {"code": "another-one", "pk": "1"}
        case "novideo":
            del media["video_versions"]
        case "noitemurl":
            media["carousel_media"][2]["image_versions2"]["candidates"] = []
        case "nullside":
            media |= dict.fromkeys(_SIDE_DATA)
            media["user"]["full_name"] = None
        case "hugenumbers":
            media |= {"like_count": 10**30, "original_width": 10**30}
            for version in (*media["video_versions"], *media["image_versions2"]["candidates"]):
                version |= {"width": 10**30, "height": float("nan")}
    return media


def signature(path: str) -> str:
    """Return the ``oh`` that the CDN expects for *path*."""
    return hmac.new(_SIGNING_KEY, path.encode(), hashlib.sha256).hexdigest()[:32]


def _padded(video: bytes, size: int) -> bytes:
    """Return *video* padded with a ``free`` box (ISO 14496-12, 8.1.2), which players skip."""
    room = size - len(video)
    return video if room < 8 else video + room.to_bytes(4, "big") + b"free" + bytes(room - 8)
