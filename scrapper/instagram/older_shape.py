"""Converts media objects in the older shape, used by the embed page, to the current one."""

from collections.abc import Iterator
from typing import Any

from scrapper.instagram.media import CAROUSEL, PICTURE, VIDEO
from scrapper.instagram.safe_json import as_dict, as_list, as_text

__all__ = ["to_current_shape"]

_MAX_NODES = 100


def to_current_shape(node: dict[str, Any]) -> dict[str, Any]:
    """Convert *node* to the shape that :mod:`scrapper.instagram.media` reads; never raises.

    Missing or malformed fields become None or empty. A carousel without children remains a
    carousel, so that its cover does not count as the post. A video without ``video_url`` gets a
    single version, whose URL is None.
    """
    children = [to_current_shape(child) for child in _nodes(node.get("edge_sidecar_to_children"))]
    type_name = as_text(node.get("__typename"))
    is_carousel = bool(children) or "Sidecar" in type_name
    is_video = node.get("is_video") is True or "Video" in type_name
    owner, size = as_dict(node.get("owner")), as_dict(node.get("dimensions"))
    width, height = size.get("width"), size.get("height")
    likes = as_dict(node.get("edge_liked_by")) or as_dict(node.get("edge_media_preview_like"))
    captions = _nodes(node.get("edge_media_to_caption"))
    media = {
        "code": node.get("shortcode"),
        "pk": node.get("id"),
        "media_type": CAROUSEL if is_carousel else VIDEO if is_video else PICTURE,
        "taken_at": node.get("taken_at_timestamp"),
        "caption": {"text": next(captions, {}).get("text")},
        "user": {**owner, "pk": owner.get("id")},
        "original_width": width,
        "original_height": height,
        "image_versions2": {
            "candidates": [
                *map(_candidate, as_list(node.get("display_resources"))),
                {"url": node.get("display_url"), "width": width, "height": height},
            ]
        },
        "carousel_media": children,
        "usertags": {"in": list(_nodes(node.get("edge_media_to_tagged_user")))},
        "like_count": likes.get("count"),
        "comment_count": as_dict(node.get("edge_media_to_comment")).get("count"),
        "view_count": node.get("video_view_count"),
    }
    if is_video:
        # Don't assume the original's size: the file may be smaller than a stream in the manifest.
        media["video_versions"] = [{"url": node.get("video_url")}]
        media["video_dash_manifest"] = as_dict(node.get("dash_info")).get("video_dash_manifest")
    unchanged = ("location", "accessibility_caption", "has_audio", "video_duration", "product_type")
    return media | {key: node[key] for key in unchanged if key in node}


def _candidate(resource: Any) -> dict[str, Any]:
    resource = as_dict(resource)
    return {
        "url": resource.get("src"),
        "width": resource.get("config_width"),
        "height": resource.get("config_height"),
    }


def _nodes(connection: Any) -> Iterator[dict[str, Any]]:
    edges = as_list(as_dict(connection).get("edges"))[:_MAX_NODES]
    return (as_dict(as_dict(edge).get("node")) for edge in edges)
