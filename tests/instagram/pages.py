"""Pages of instagram.com as of October 2026: about 1 MB, with the post in one script."""

import json
from typing import Any

__all__ = ["embed", "gated", "logged_out_data", "of_route", "old_post", "post"]

_POST_ROUTE = "comet.igweb.PolarisLoggedOutDesktopWWWPostRoute"
_PADDING_BYTES = 900_000
_FILLER = json.dumps({"require": [["qplTimingsServerJS", None, None, ["x" * 4000]]]})
# Most of a real page consists of scripts that have nothing to do with the post.
_PADDING = f'<script type="application/json" data-sjs>{_FILLER}</script>\n' * (
    _PADDING_BYTES // len(_FILLER)
)


def of_route(route: str, *scripts: Any) -> str:
    """Return a page of this *route*, with each of the *scripts* as JSON in a script element."""
    whole = [{"canonicalRouteName": f"comet.igweb.{route}"}, *scripts]
    texts = "\n".join(
        f'<script type="application/json" data-sjs>{json.dumps(data)}</script>' for data in whole
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><title>Instagram</title></head><body>\n'
        f"{texts}\n</body></html>"
    )


def post(media: dict[str, Any], stubs: list[dict[str, Any]], token: str) -> str:
    """Return the page of a post, with its owner's other posts and a stub of this one."""
    page = of_route(
        _POST_ROUTE.rpartition(".")[2],
        _relay({"viewer": None}),
        _relay(logged_out_data(media, stubs)),
    )
    tokens = f'<script>["LSD",[],{{"token":"{token}"}},323]</script>'
    return page.replace("<body>", f"<body>{tokens}{_PADDING}", 1)


def old_post(media: dict[str, Any]) -> str:
    """Return the page of a post in the older format."""
    info = {"xdt_api__v1__media__shortcode__web_info": {"items": [media]}}
    return of_route("PolarisPostRoute", _relay({"viewer": None}), _relay(info))


def embed(media: dict[str, Any] | None, code: str) -> str:
    """Return a post's embed page, in the older format (captures embed_video, embed_carousel)."""
    context = {
        "context": {"shortcode": code, "media_id": "3000000000000000001"},
        "gql_data": media and {"shortcode_media": _in_older_shape(media)},
    }
    text = json.dumps({"contextJSON": json.dumps(context)})
    return (
        '<!DOCTYPE html><html lang="en"><head><title>Instagram</title></head><body>'
        '<div class="Embed"></div><script>requireLazy(["TimeSliceImpl","ServerJS"],'
        'function(TimeSlice,ServerJS){(new ServerJS()).handle({"require":[["PolarisEmbedSimple",'
        f'"init",[],[{text}]]]}});}});</script></body></html>'
    )


def _in_older_shape(media: dict[str, Any]) -> dict[str, Any]:
    pictures = (media.get("image_versions2") or {}).get("candidates") or []
    node: dict[str, Any] = {
        "__typename": "GraphImage",
        "id": media.get("pk"),
        "shortcode": media.get("code"),
        "dimensions": {"height": 400, "width": 320},
        "is_video": False,
        "display_url": pictures[0]["url"] if pictures else None,
        "display_resources": [
            {"src": one["url"], "config_width": 320, "config_height": 400} for one in pictures[:1]
        ],
        "taken_at_timestamp": media.get("taken_at"),
        "owner": {"id": "4242", "username": media.get("user", {}).get("username")},
        "edge_media_to_caption": {"edges": [{"node": media.get("caption")}]},
        "edge_liked_by": {"count": 7},
        "edge_media_to_comment": {"count": 2},
        "edge_media_to_tagged_user": {"edges": [{"node": {"user": {"username": "tagged.one"}}}]},
    }
    if versions := media.get("video_versions"):
        node |= {"__typename": "GraphVideo", "is_video": True, "video_url": versions[0]["url"]}
    elif media.get("media_type") == 2:
        node |= {"__typename": "GraphVideo", "is_video": True}
    if children := media.get("carousel_media"):
        edges = [{"node": _in_older_shape(child)} for child in children]
        node |= {"__typename": "GraphSidecar", "edge_sidecar_to_children": {"edges": edges}}
    return node


def gated(code: str) -> str:
    """Return the page of a post that needs a login."""
    wrapper = {"code": code, "if_not_gated_logged_out": None, "gating_ruling": {"gating_type": 1}}
    return of_route("PolarisLoggedOutDesktopWWWPostRoute", _relay({"xig_polaris_media": wrapper}))


def logged_out_data(media: dict[str, Any], stubs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the logged-out web app's query returns, which a post's page also contains."""
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
