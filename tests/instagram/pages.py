"""Pages of instagram.com as of October 2026: about 1 MB, with the post in one script."""

import json
from typing import Any

__all__ = ["gated", "logged_out_data", "of_route", "post", "post_of_old"]

_POST_ROUTE = "comet.igweb.PolarisLoggedOutDesktopWWWPostRoute"
_PADDING_BYTES = 900_000
_FILLER = json.dumps({"require": [["qplTimingsServerJS", None, None, ["x" * 4000]]]})
# Most of a real page: scripts that have nothing to do with the post.
_PADDING = f'<script type="application/json" data-sjs>{_FILLER}</script>\n' * (
    _PADDING_BYTES // len(_FILLER)
)


def of_route(route: str, *scripts: Any) -> str:
    """A page of this *route*, with its data in *scripts*."""
    whole = [{"canonicalRouteName": f"comet.igweb.{route}"}, *scripts]
    texts = "\n".join(
        f'<script type="application/json" data-sjs>{json.dumps(data)}</script>' for data in whole
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><title>Instagram</title></head><body>\n'
        f"{texts}\n</body></html>"
    )


def post(media: dict[str, Any], stubs: list[dict[str, Any]], token: str) -> str:
    """The page of a post, with its owner's other posts and a stub of this one."""
    page = of_route(
        _POST_ROUTE.rpartition(".")[2],
        _relay({"viewer": None}),
        _relay(logged_out_data(media, stubs)),
    )
    tokens = f'<script>["LSD",[],{{"token":"{token}"}},323]</script>'
    return page.replace("<body>", f"<body>{tokens}{_PADDING}", 1)


def post_of_old(media: dict[str, Any]) -> str:
    """The same page in the older shape."""
    info = {"xdt_api__v1__media__shortcode__web_info": {"items": [media]}}
    return of_route("PolarisPostRoute", _relay({"viewer": None}), _relay(info))


def gated(code: str) -> str:
    """The page of a post that needs a login."""
    wrapper = {"code": code, "if_not_gated_logged_out": None, "gating_ruling": {"gating_type": 1}}
    return of_route("PolarisLoggedOutDesktopWWWPostRoute", _relay({"xig_polaris_media": wrapper}))


def logged_out_data(media: dict[str, Any], stubs: list[dict[str, Any]]) -> dict[str, Any]:
    """The data that the logged-out web app's query returns, and its page holds."""
    media = dict(media)
    if isinstance(media.get("user"), dict):
        edges = [{"node": stub} for stub in stubs]
        timeline = {"polaris_ordered_timeline_connection": {"edges": edges}}
        media["user"] = {**media["user"], **timeline}
    wrapper = {"pk": media.get("pk"), "code": media.get("code"), "if_not_gated_logged_out": media}
    return {"xig_polaris_media": wrapper}


def _relay(data: dict[str, Any]) -> dict[str, Any]:
    result = {"__bbox": {"complete": True, "result": {"data": data}}}
    blocks = [["RelayPrefetchedStreamCache", "next", [], ["adp_Query", result]]]
    return {"require": [["ScheduledServerJS", "handle", None, [{"__bbox": {"require": blocks}}]]]}
