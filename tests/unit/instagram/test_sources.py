"""What each source requests, and what it returns for each answer."""

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
import requests

from scrapper.instagram.context import Context
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources import api, embed, logged_out_api, media_info, page, root_query
from scrapper.instagram.sources.queries import QUERIES, flag_variables
from scrapper.instagram.verdict import Reason, Refused
from tests.instagram.answers import ANSWERS, RawAnswer
from tests.unit.instagram.test_verdict import response_of

R = Reason
CODE = Shortcode("DExample001" + "k" * 28)
MEDIA = {"code": CODE.code, "media_type": 2, "video_versions": [{"url": "https://cdn.example/v"}]}
OTHER = {**MEDIA, "code": "another-one"}
BROKEN: list[Any] = [None, [], {}, "text", 7]


class FakeContext:
    """A context that returns *answer* for every query, and the next of *pages* for a page view."""

    def __init__(self, answer: Any, *pages: RawAnswer, with_session: bool = False) -> None:
        self.requests: list[Any] = []
        self.reports: list[Any] = []
        self.is_logged_in = with_session
        self._answer = answer
        self._pages = list(pages)

    def query_by_instaloader(self, code: str) -> Any:
        return self._record(code)

    def query_web(self, source: str, variables: Mapping[str, Any]) -> Any:
        return self._record((source, variables))

    def get_api(self, path: str, headers: Mapping[str, str]) -> Any:
        return self._record((path, headers))

    def view(self, path: str, *, embedded: bool = False) -> requests.Response:
        self.requests.append((path, embedded))
        return response_of(self._pages.pop(0))

    def report(self, *report: str) -> None:
        self.reports.append(report)

    def _record(self, request: Any) -> Any:
        self.requests.append(request)
        return self._answer


Ask = Callable[[Context, Shortcode], dict[str, Any]]


def read(ask: Ask, context: FakeContext) -> Any:
    """Return the media object from the source, or the reason for its refusal."""
    try:
        return ask(cast(Context, context), CODE)
    except Refused as refused:
        return refused.reason


def info(value: Any, **more: Any) -> dict[str, Any]:
    return {"data": {"xdt_api__v1__media__shortcode__web_info": value}, **more}


@pytest.mark.parametrize("ask", [api.ask, root_query.ask])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (info({"items": [MEDIA, OTHER]}), MEDIA),
        (info({"items": []}), R.EMPTY),
        (info({"items": [OTHER]}), R.CHANGED),
        (info({"items": [None]}), R.CHANGED),
        (info(None), R.NULL),
        (info(None, errors=[{}]), R.CHANGED),
        *((info(value), R.CHANGED) for value in BROKEN[1:]),
        *((info({"items": value}), R.CHANGED) for value in BROKEN if value != []),
        *(({"data": value}, R.CHANGED) for value in BROKEN),
        *((value, R.CHANGED) for value in BROKEN),
    ],
)
def test_instaloader_query_returns_the_post_or_a_reason(
    ask: Ask, answer: object, expected: object
) -> None:
    assert read(ask, FakeContext(answer)) == expected


def gate(value: Any, **more: Any) -> dict[str, Any]:
    return {"data": {"xig_polaris_media": value}, **more}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (gate({"if_not_gated_logged_out": MEDIA}), MEDIA),
        (gate({"if_not_gated_logged_out": OTHER}), R.CHANGED),
        (gate({"if_not_gated_logged_out": None}), R.GATED),
        (gate(None), R.NULL),
        (gate(None, errors=[{}]), R.CHANGED),
        *((gate(value), R.CHANGED) for value in BROKEN[1:]),
        *(({"data": value}, R.CHANGED) for value in BROKEN),
        *((value, R.CHANGED) for value in BROKEN),
    ],
)
def test_logged_out_query_returns_the_post_or_a_reason(answer: object, expected: object) -> None:
    assert read(logged_out_api.ask, FakeContext(answer)) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"items": [MEDIA, OTHER]}, MEDIA),
        ({"items": []}, R.EMPTY),
        ({"items": [OTHER]}, R.CHANGED),
        ({"items": [None]}, R.CHANGED),
        *(({"items": value}, R.CHANGED) for value in BROKEN if value != []),
        *((value, R.CHANGED) for value in BROKEN),
    ],
)
def test_media_info_returns_the_post_or_a_reason(answer: object, expected: object) -> None:
    assert read(media_info.ask, FakeContext(answer)) == expected


@pytest.mark.parametrize(
    ("ask", "sent"),
    [
        (api.ask, CODE.code),
        (root_query.ask, ("root_query", {"shortcode": CODE.code})),
        (logged_out_api.ask, ("logged_out_api", {"media_id": str(CODE.media_id)})),
        (
            media_info.ask,
            (
                f"api/v1/media/{CODE.media_id}/info/",
                {"X-IG-App-ID": "936619743392459", "Accept": "*/*"},
            ),
        ),
    ],
)
def test_each_source_sends_one_query_for_the_post(ask: Ask, sent: object) -> None:
    context = FakeContext(None)
    read(ask, context)
    assert context.requests == [sent]


def test_web_app_queries_include_their_flags() -> None:
    assert {source: query.name for source, query in QUERIES.items()} == {
        "root_query": "PolarisPostRootQuery",
        "logged_out_api": "PolarisLoggedOutDesktopWWWPostRootContentQuery",
    }
    assert flag_variables((*QUERIES["root_query"].flags, "New")) == {
        "__relay_internal__pv__PolarisShortDramaEnabledrelayprovider": False,
        "__relay_internal__pv__PolarisMultiCaptionCarouselEnabledrelayprovider": True,
        "__relay_internal__pv__Newrelayprovider": False,
    }
    assert QUERIES["logged_out_api"].flags == ()


# ---- pages


def html(*data: Any, route: str = "PolarisPostRoute") -> RawAnswer:
    scripts = "".join(f'<script type="application/json">{json.dumps(one)}</script>' for one in data)
    return RawAnswer(200, f'{{"canonicalRouteName":"comet.igweb.{route}"}}{scripts}')


WITHOUT_ROUTE = RawAnswer(200, "hello")
GATED = {"code": CODE.code, "if_not_gated_logged_out": None}
STUB = {"code": CODE.code, "media_type": 2, "image_versions2": None}
UNKNOWN = {**STUB, "image_versions2": {"new_key": []}}
WRAPPED_STUB, WRAPPED = ({"if_not_gated_logged_out": media} for media in (STUB, MEDIA))
LOGIN_FORM = html(route="LoginHomepageRoute")


PATHS = {
    **{name: f"{name}/{CODE.text}/" for name in ("p", "reel", "reels")},
    "someone": f"someone/reel/{CODE.text}/",
    "owner": f"some.one_1/p/{CODE.text}/",
    "tv": f"tv/{CODE.code}",
}
PICTURE = {"code": CODE.code, "image_versions2": {"candidates": [{}]}}
CAROUSEL = {"code": CODE.code, "carousel_media": [{}]}


def redirect(to: str) -> RawAnswer:
    return RawAnswer(302, "", {"Location": to})


@pytest.mark.parametrize(
    ("pages", "paths", "expected"),
    [
        pytest.param([html(MEDIA)], "p", MEDIA, id="a video"),
        pytest.param([html(PICTURE)], "p", PICTURE, id="a picture"),
        pytest.param([html(CAROUSEL)], "p", CAROUSEL, id="a carousel"),
        pytest.param([html(MEDIA, route="PolarisErrorRoute")], "p", MEDIA, id="another route"),
        pytest.param([html(GATED)], "p", R.GATED, id="a gate"),
        pytest.param([html(GATED, MEDIA)], "p", MEDIA, id="a gate, then the post"),
        pytest.param([html(WRAPPED_STUB, WRAPPED)], "p", MEDIA, id="a stub, then the post"),
        pytest.param([html([WRAPPED_STUB, WRAPPED])], "p", MEDIA, id="both in one script"),
        pytest.param([html(STUB)], "p", R.THROTTLED, id="only a stub"),
        pytest.param([html(WRAPPED_STUB)], "p", R.THROTTLED, id="only a stub in a wrapper"),
        pytest.param([html(STUB, GATED, UNKNOWN)], "p", R.GATED, id="a stub, a gate, another form"),
        pytest.param(
            [html(STUB, UNKNOWN)] * 2, "p reel", R.CHANGED, id="a stub, then another form"
        ),
        pytest.param([html(STUB, route="PolarisErrorRoute")], "p", R.GONE, id="a stub, but gone"),
        pytest.param([html()], "p", R.THROTTLED, id="a route without a post"),
        pytest.param([html(route="PolarisErrorRoute")], "p", R.GONE, id="no such post"),
        pytest.param([RawAnswer(404, MEDIA)], "p", R.GONE, id="404"),
        pytest.param([ANSWERS["toomany"]], "p", R.RATE_LIMITED, id="a rate limit"),
        pytest.param([LOGIN_FORM, html(MEDIA)], "p reel", MEDIA, id="login form, then post"),
        pytest.param([LOGIN_FORM] * 2, "p reel", R.LOGIN_WALL, id="a login form twice"),
        pytest.param([WITHOUT_ROUTE, html(MEDIA)], "p reel", MEDIA, id="another page, then post"),
        pytest.param([WITHOUT_ROUTE] * 2, "p reel", R.CHANGED, id="another page twice"),
        pytest.param(
            [html({**MEDIA, "media_type": [], "code": "x", "pk": CODE.code}), html()],
            "p reel",
            R.THROTTLED,
            id="a script with another post, then none",
        ),
        pytest.param([RawAnswer(500), html(MEDIA)], "p reel", MEDIA, id="a failure, then the post"),
        pytest.param(
            [redirect(f"/someone/reel/{CODE.text}/?x=1"), html(MEDIA)],
            "p someone",
            MEDIA,
            id="redirected to its owner",
        ),
        pytest.param(
            [redirect(f"https://www.instagram.com/reels/{CODE.text}/"), html(MEDIA)],
            "p reels",
            MEDIA,
            id="redirected to another path",
        ),
        pytest.param(
            [redirect(f"https://instagram.com/tv/{CODE.code}"), html(MEDIA)],
            "p tv",
            MEDIA,
            id="redirected to its code",
        ),
        pytest.param(
            [redirect(f"/some.one_1/p/{CODE.text}/"), html(MEDIA)],
            "p owner",
            MEDIA,
            id="redirected to its owner's name",
        ),
        pytest.param(
            [redirect("/p/DExample002/"), html()],
            "p reel",
            R.THROTTLED,
            id="redirected to another post",
        ),
        pytest.param(
            [redirect(f"https://example.com/p/{CODE.text}/"), html()],
            "p reel",
            R.THROTTLED,
            id="redirected to another host",
        ),
        pytest.param(
            [redirect("/accounts/login/"), redirect("/challenge/")],
            "p reel",
            R.CHALLENGE,
            id="redirected to a form, then to a challenge",
        ),
        pytest.param(
            [redirect("https://[/"), html()],
            "p reel",
            R.THROTTLED,
            id="redirected to an invalid URL",
        ),
    ],
)
def test_page_returns_the_post_or_a_reason(
    pages: list[RawAnswer], paths: str, expected: object
) -> None:
    context = FakeContext(None, *pages)
    assert read(page.ask, context) == expected
    assert context.requests == [(PATHS[name], False) for name in paths.split()]
    assert [name for name, _ in context.reports] == ["page"] * paths.endswith(" reel")


NODE = {
    "shortcode": CODE.code,
    "is_video": False,
    "display_url": "https://cdn.example/p",
    "dimensions": {"width": 640, "height": 640},
}
VIDEO = {**NODE, "is_video": True}
SIDECAR = {
    **NODE,
    "__typename": "GraphSidecar",
    "edge_sidecar_to_children": {"edges": [{"node": {**NODE, "shortcode": "a-slide"}}]},
}


def embedded(node: Any, status: int = 200) -> RawAnswer:
    context = json.dumps({"gql_data": {"shortcode_media": node}})
    return RawAnswer(status, f'{{"contextJSON":{json.dumps(context)}}}')


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(embedded(NODE), 1, id="a picture"),
        pytest.param(embedded({**VIDEO, "video_url": "https://cdn.example/v"}), 2, id="a video"),
        pytest.param(
            embedded({**VIDEO, "dash_info": {"video_dash_manifest": "<MPD/>"}}), 2, id="in parts"
        ),
        pytest.param(embedded(VIDEO), R.CLOSED, id="only a cover"),
        pytest.param(embedded(SIDECAR), 8, id="a carousel"),
        pytest.param(
            embedded({**SIDECAR, "edge_sidecar_to_children": None}), R.CLOSED, id="only the cover"
        ),
        pytest.param(embedded({**SIDECAR, "is_video": True}), 8, id="a carousel as a video"),
        pytest.param(embedded({**NODE, "shortcode": "another-one"}), R.CLOSED, id="another post"),
        pytest.param(embedded(None), R.CLOSED, id="no post"),
        pytest.param(html(), R.CLOSED, id="no embedded JSON"),
        pytest.param(RawAnswer(404), R.CLOSED, id="no page"),
        pytest.param(RawAnswer(200, '"contextJSON":"{"'), R.CHANGED, id="not JSON"),
        pytest.param(RawAnswer(200, '"contextJSON":"[]"'), R.CLOSED, id="a list"),
        pytest.param(RawAnswer(200, r'"contextJSON":"\"\ud800\""'), R.CLOSED, id="lone surrogate"),
        pytest.param(LOGIN_FORM, R.LOGIN_WALL, id="a login form"),
        pytest.param(embedded(NODE, 500), R.FAILED, id="a failure"),
    ],
)
def test_embed_page_returns_the_post_or_a_reason(answer: RawAnswer, expected: object) -> None:
    context = FakeContext(None, answer)
    found = read(embed.ask, context)
    assert (found["media_type"] if isinstance(found, dict) else found) == expected
    assert context.requests == [(f"p/{CODE.text}/embed/captioned/", True)]


@pytest.mark.parametrize(("ask", "pages"), [(page.ask, 2), (embed.ask, 1)])
def test_login_form_means_that_the_session_ended(ask: Ask, pages: int) -> None:
    assert read(ask, FakeContext(None, *[LOGIN_FORM] * pages, with_session=True)) is R.SESSION_ENDED
