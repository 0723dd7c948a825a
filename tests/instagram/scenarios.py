"""The scenarios that a shortcode can name: how each source and the CDN answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["SCENARIOS", "Answer", "Scenario", "scenario_name"]


class Answer(NamedTuple):
    """The CDN's answer to one request: a file in ``media``, its type, and how it is sent.

    ``wire`` is one of these:

    - ``length``: with a Content-Length
    - ``bare``: without one, so that the body ends when the connection closes
    - ``chunked``
    - ``packed``: compressed with gzip
    - ``part``: the whole file as a 206 that was not requested
    - ``half``: half of the file as a 206 that was not requested
    - ``stall``: nothing after the first bytes
    - ``drip``: ten bytes per second
    - ``reset``: no answer
    - ``to URL``: a redirect to the URL

    *only* is the number of bytes after which the body ends early. Without a *file*, the post's own
    file is sent. With a *status* other than 200, there is no body.
    """

    file: str = ""
    content_type: str = ""
    wire: str = "length"
    only: int | None = None
    status: int = 200


@dataclass(frozen=True)
class Scenario:
    """How each source and the CDN answer for a post.

    Each of these fields is the answer of one source:

    - ``api``: Instaloader's query
    - ``root``: the same query with its current document; if empty, the same as ``api``
    - ``web``: the logged-out web app's query; if empty, the same as ``api``
    - ``page``: the public page; if empty, the post if the API has it, else a redirect to the login
    - ``reel``: the page under ``/reel/``; if empty, the same as ``page``
    - ``embed``: the embed page
    - ``info``: media info, with a session

    ``shape`` names the files of the post, and ``media`` a fault of the CDN. ``change`` may alter
    the media object in any way. ``change_by`` alters the media objects of single sources.

    ``answers`` has, for each candidate, the CDN's answers to successive requests. The last one
    repeats. The key for the best candidate of the second item is ``best/2``.
    """

    description: str
    api: str = "post"
    root: str = ""
    web: str = ""
    page: str = ""
    reel: str = ""
    info: str = "post"
    embed: str = "login"
    shape: str = "video"
    media: str = ""
    change: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    change_by: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(
        default_factory=dict
    )
    answers: Mapping[str, Sequence[Answer]] = field(default_factory=dict)

    def answer(self, source: str) -> str:
        """Return the name of the answer that *source* gives."""
        match source:
            case "web" | "root":
                return str(getattr(self, source)) or self.api
            case "page":
                return self.page or ("post" if self.api == "post" else "login")
            case "reel":
                return self.reel or self.answer("page")
            case _:
                return str(getattr(self, source))


def _api(about: str, answer: str) -> Scenario:
    return Scenario(about, api=answer)


def _media(about: str, fault: str) -> Scenario:
    return Scenario(about, media=fault)


def _shape(about: str, shape: str) -> Scenario:
    return Scenario(about, shape=shape)


SCENARIOS: Mapping[str, Scenario] = {
    "reel": _shape("a video", "reel"),
    "photo": _shape("a picture", "photo"),
    "carousel": _shape("a picture, a video and a picture", "carousel"),
    "twenty": _shape("a carousel of twenty pictures", "twenty"),
    "ten": _shape("a carousel of ten pictures", "ten"),
    "linked": _shape("a caption with user names, tags and a link", "linked"),
    "nocaption": _shape("a video without a caption", "nocaption"),
    "emoji": _shape("a caption with emoji, quotes, line breaks, right-to-left text", "emoji"),
    "halfemoji": _shape("a video with a caption that ends in half an emoji", "halfemoji"),
    "webp": _shape("a picture in WebP", "webp"),
    "vp9": _shape("a video in VP9 and Opus", "vp9"),
    "mute": _shape("a video without sound, not described as such", "mute"),
    "unsigned": _shape("a video whose CDN URL has no expiry", "unsigned"),
    "expired": _shape("a video whose CDN URL has expired, though it is still served", "expired"),
    "big": _shape("a video of 20 MB", "big"),
    "bigchunked": Scenario("a video of 20 MB without a length", shape="big", media="bigchunked"),
    "slow": Scenario("a video sent within a second", shape="slow", media="slow"),
    "steady": Scenario("a video sent within five seconds", shape="slow", media="steady"),
    "hour": Scenario("a video sent within an hour", shape="slow", media="hour"),
    "unsorted": _shape("a picture whose largest candidate is not the first", "unsorted"),
    "unsortedvideo": _shape("a video whose largest version is not the first", "unsortedvideo"),
    "crops": _shape("a picture whose candidates are a crop, and then the whole picture", "crops"),
    "nullside": _shape("a video with null for all optional data", "nullside"),
    "loginonly": Scenario("a video that needs a login; the API redirects", api="loginonly"),
    "removed": _api("the expected answer with no items", "removed"),
    "nullinfo": _api("the expected answer with null instead of the items", "nullinfo"),
    "notfound": _api("404 from the API", "notfound"),
    "login": _api("redirect to the login", "login"),
    "forbidden": _api("403 from the API", "forbidden"),
    "unauthorized": _api("401 from the API, login required", "unauthorized"),
    "limited": _api("429 with Retry-After", "limited"),
    "limitedbare": _api("429 without Retry-After, as HTML", "limitedbare"),
    "wait": _api("401: Please wait a few minutes before you try again", "wait"),
    "wait200": _api("200: Please wait a few minutes before you try again", "wait200"),
    "challenge": _api("400: challenge_required", "challenge"),
    "checkpoint": _api("400: checkpoint_required", "checkpoint"),
    "feedback": _api("400: feedback_required", "feedback"),
    "badrequest": _api("400 with an unknown message", "badrequest"),
    "html": _api("a page instead of JSON", "html"),
    "servererror": _api("500 from the API", "servererror"),
    "jsonnull": _api("JSON, but null", "jsonnull"),
    "jsonlist": _api("JSON, but a list", "jsonlist"),
    "nodata": _api("an answer without data", "nodata"),
    "datanull": _api("an answer whose data is null", "datanull"),
    "nokey": _api("an answer without the expected key", "nokey"),
    "errors": _api("null under the expected key, and an error", "errors"),
    "silent": _api("the API never answers", "silent"),
    "reset": _api("the API's connection is reset before it answers", "reset"),
    "apicut": _api("the API's answer ends halfway", "apicut"),
    "apidrip": _api("the API's answer is sent at one byte per second", "apidrip"),
    "headerdrip": _api("the headers of the API's answer, one byte per second", "headerdrip"),
    "stale": Scenario("403 for a page token that was used before", api="stale", page="login"),
    "unknowntype": Scenario("an unknown media type", shape="unknowntype", page="login"),
    "nouser": Scenario("a post without an owner", shape="nouser", page="login"),
    "nocode": Scenario("a post without a shortcode", shape="nocode", page="login"),
    "changed": Scenario("a post with another shortcode", shape="changed", page="login"),
    "novideo": Scenario("a video without a video file", shape="novideo", page="login"),
    "noitemurl": Scenario("an item without a URL", shape="noitemurl", page="login"),
    "offsite": Scenario("a media URL on another host", shape="offsite", page="login"),
    # Sources that give different answers.
    "refused": Scenario("the API refuses, the page has the post", api="forbidden", page="post"),
    "pagereel": Scenario(
        "the API refuses, the page has the reel", shape="reel", api="forbidden", page="post"
    ),
    "apiwait": Scenario("the query is retired: always 401", api="wait", page="post"),
    "apinull": Scenario("the query is retired: always null", api="nullinfo", page="post"),
    "apiretired": Scenario("the query is retired: 400", api="retired", page="post"),
    "apiclosed": Scenario("feedback_required at random", api="feedback", page="post"),
    "apihome": Scenario("the API redirects to the start page", api="home", page="post"),
    "apilimited": Scenario("429 from the API, the page has the post", api="limited", page="post"),
    "apisilent": Scenario(
        "the API hangs, the page has the post",
        api="silent",
        root="forbidden",
        web="forbidden",
        page="post",
    ),
    "webonly": Scenario(
        "only the web app's query has the post", api="nullinfo", web="post", page="login"
    ),
    "oldpage": Scenario("the page has the older format", api="forbidden", page="old"),
    "reelonly": Scenario(
        "only the /reel/ page has the post", api="forbidden", page="login", reel="post"
    ),
    "slidefrompage": Scenario(
        "a slide whose URL only the page has", web="forbidden", page="whole", shape="noitemurl"
    ),
    "gone": Scenario("removed: the page says so", api="forbidden", page="gone"),
    "gonewait": Scenario("removed, and the API says to wait", api="wait", page="gone"),
    "gonelimited": Scenario("removed, and 429 from the API", api="limitedbare", page="gone"),
    "gonepage": Scenario("the page is a 404", api="forbidden", page="notfound"),
    "goneblocked": Scenario("removed, and the API is blocked", api="softblock", page="gone"),
    "gated": Scenario("needs a login: the page says so", api="forbidden", page="gated"),
    "gatednull": Scenario("gated, and the query is null", api="nullinfo", page="gated"),
    "gatedwait": Scenario("gated, and the API says to wait", api="wait", page="gated"),
    "throttled": Scenario(
        "401 require_login, and a page without data", api="softblock", page="throttled"
    ),
    "throttledpage": Scenario(
        "the query is null, the page without data", api="nullinfo", page="throttled"
    ),
    "softblock": Scenario(
        "401 require_login, and a login form", api="softblock", page="loginroute"
    ),
    "walled": Scenario("a login form everywhere", api="login", page="loginroute"),
    "walledhome": Scenario("a redirect to the start page everywhere", api="home", page="home"),
    "retiredwall": Scenario(
        "the query is retired, and a login form", api="retired", page="loginroute"
    ),
    "pagechanged": Scenario("the page has an unknown format", api="forbidden", page="changed"),
    "private": Scenario("only media info has the post", api="forbidden", page="gated"),
    # More than a client should accept.
    "apiendless": Scenario("an endless answer from the API", api="endless"),
    "apibomb": Scenario("a compressed answer of a gigabyte", api="bomb"),
    "pageendless": Scenario("an endless page", api="forbidden", page="endless"),
    "pagebomb": Scenario("a compressed page of a gigabyte", api="forbidden", page="bomb"),
    "apinested": Scenario("10^6 nested arrays", api="nested"),
    "pagenested": Scenario("10^6 nested arrays in the page", api="forbidden", page="nested"),
    "apivalues": Scenario("a million empty arrays", api="values"),
    "retry22": Scenario("Retry-After of 22 digits", api="retry22"),
    "retry400": Scenario("Retry-After of 400 digits", api="retry400"),
    "retrydate": Scenario("Retry-After with a date without a zone", api="retrydate"),
    "apiloop": Scenario("the API redirects to itself forever", api="loop"),
    "cdnloop": _media("the CDN redirects to itself forever", "cdnloop"),
    "cdnlength": _media("a Content-Length of 5,000 digits", "cdnlength"),
    "hugenumbers": _shape("a width of 10^30, a number of 5,000 digits", "hugenumbers"),
    "longcaption": _shape("a caption of 200,000 characters", "longcaption"),
    # The CDN.
    "cdnforbidden": _media("403 from the CDN", "cdnforbidden"),
    "cdnnotfound": _media("404 from the CDN", "cdnnotfound"),
    "cdnerror": _media("500 from the CDN", "cdnerror"),
    "cdnlimited": _media("429 from the CDN", "cdnlimited"),
    "cdnhtml": _media("a page instead of a video", "cdnhtml"),
    "cdnswap": _media("a picture instead of a video", "cdnswap"),
    "cdnempty": _media("an empty file", "cdnempty"),
    "cut": _media("a file that ends halfway", "cut"),
    "cutonce": _media("a file that ends halfway the first time", "cutonce"),
    "cutchunked": _media("a chunked file that ends halfway", "cutchunked"),
    "drip": _media("a file sent at one byte per second", "drip"),
    "cdnsilent": _media("the CDN never answers", "cdnsilent"),
    "cdnreset": _media("the CDN's connection is reset before it answers", "cdnreset"),
    "cdnredirect": _media("a redirect to a private address, without TLS", "cdnredirect"),
    "cdnprivate": _media("a redirect to a private address", "cdnprivate"),
    "carouselcut": Scenario("a carousel whose last file is cut", shape="carousel", media="lastcut"),
    "best400": Scenario("400 for the best candidate", shape="photo", media="best400"),
    "best403": Scenario("403 for the best candidate", shape="photo", media="best403"),
    "best404": Scenario("404 for the best candidate", shape="carousel", media="best404"),
    "worn": _media("URLs that fail until the post is described again", "worn"),
    "oneslidegone": Scenario(
        "a slide that the CDN never sends", shape="carousel", media="slide404"
    ),
}


def scenario_name(shortcode: str) -> str:
    """Return the name of the shortcode's scenario: the text before the first ``-``."""
    return shortcode.partition("-")[0]
