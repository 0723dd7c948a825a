"""Media objects in the older shape, from the embed page."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapper.instagram.media import Candidate, describe
from scrapper.instagram.older_shape import to_current_shape
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources.embed import lacks_files, node_in
from scrapper.instagram.verdict import Reason, Refused

CODE = Shortcode("INVENTED123")
CDN = "https://scontent.cdninstagram.com/v/t50/"


def node(**more: Any) -> dict[str, Any]:
    return {
        "__typename": "GraphImage",
        "id": "3000000000000000001",
        "shortcode": CODE.text,
        "dimensions": {"height": 1280, "width": 720},
        "is_video": False,
        "display_url": f"{CDN}cover.jpg?oe=7FFFFFFF",
        "display_resources": [
            {"src": f"{CDN}cover_640.jpg?oe=7FFFFFFF", "config_width": 640, "config_height": 1137},
            {"src": f"{CDN}cover.jpg?oe=7FFFFFFF", "config_width": 720, "config_height": 1280},
        ],
        "taken_at_timestamp": 1790000000,
        "owner": {"id": "4242", "username": "invented.user"},
        "edge_media_to_caption": {"edges": [{"node": {"text": "An invented caption"}}]},
        "edge_liked_by": {"count": 7},
        "edge_media_to_comment": {"count": 2},
        "edge_media_to_tagged_user": {"edges": [{"node": {"user": {"username": "tagged"}}}]},
        **more,
    }


def test_picture_is_read_with_its_details() -> None:
    post = describe(to_current_shape(node()), CODE)
    (item,) = post.items
    assert item is not None
    assert (item.type, item.candidates[0].url) == ("image", f"{CDN}cover.jpg?oe=7FFFFFFF")
    assert [one.width for one in item.candidates] == [720, 640]
    assert (post.caption, post.owner, post.taken_at) == (
        "An invented caption",
        "invented.user",
        "2026-09-21T14:13:20Z",
    )
    details = post.details
    assert (details.likes, details.comments, details.tagged) == (7, 2, ("tagged",))
    assert details.owner_id == "4242"


def test_each_key_gets_its_current_name() -> None:
    same = {
        "location": {"name": "A place"},
        "accessibility_caption": "A text",
        "has_audio": True,
        "video_duration": 1.5,
        "product_type": "clips",
    }
    video = node(
        is_video=True,
        video_url=f"{CDN}v.mp4",
        video_view_count=9,
        dash_info={"video_dash_manifest": "<MPD/>"},
        **same,
    )
    edges = {"edges": [{"node": video}]}
    parent = to_current_shape(node(edge_sidecar_to_children=edges, edge_liked_by=None))
    [child] = parent["carousel_media"]
    assert child == {
        "code": CODE.text,
        "pk": "3000000000000000001",
        "media_type": 2,
        "taken_at": 1790000000,
        "caption": {"text": "An invented caption"},
        "user": {"id": "4242", "pk": "4242", "username": "invented.user"},
        "original_width": 720,
        "original_height": 1280,
        "image_versions2": {
            "candidates": [
                {"url": f"{CDN}cover_640.jpg?oe=7FFFFFFF", "width": 640, "height": 1137},
                *[{"url": f"{CDN}cover.jpg?oe=7FFFFFFF", "width": 720, "height": 1280}] * 2,
            ]
        },
        "video_versions": [{"url": f"{CDN}v.mp4"}],
        "video_dash_manifest": "<MPD/>",
        "carousel_media": [],
        "usertags": {"in": [{"user": {"username": "tagged"}}]},
        "like_count": 7,
        "comment_count": 2,
        "view_count": 9,
        **same,
    }
    assert (parent["media_type"], parent["like_count"]) == (8, None)
    assert not {*same, "video_versions", "video_dash_manifest"} & parent.keys()
    liked = node(edge_liked_by={}, edge_media_preview_like={"count": 8}, display_resources=["text"])
    assert to_current_shape(liked)["like_count"] == 8


def test_at_most_a_hundred_nodes_are_read() -> None:
    edges = [{"node": {"user": {"username": str(number)}}} for number in range(101)]
    tagged = to_current_shape(node(edge_media_to_tagged_user={"edges": edges}))["usertags"]["in"]
    assert tagged == [edge["node"] for edge in edges[:100]]


def test_video_without_a_file_is_refused_despite_its_cover() -> None:
    video = {"is_video": True, "__typename": "GraphVideo"}
    (item,) = describe(to_current_shape(node(**video, video_url=f"{CDN}v.mp4")), CODE).items
    assert item is not None
    # The size in the node is the original's, not the file's.
    assert item.candidates == (Candidate(f"{CDN}v.mp4", None, None),)
    with pytest.raises(Refused):
        describe(to_current_shape(node(**video)), CODE)


@pytest.mark.parametrize("name", ["GraphVideo", "XDTGraphVideo", "XDTVideo"])
@pytest.mark.parametrize("more", [{}, {"is_video": None}])
def test_video_marked_only_by_type_is_not_a_picture(name: str, more: dict[str, Any]) -> None:
    video = {**node(), **more, "__typename": name}
    if not more:
        del video["is_video"]
    assert lacks_files(to_current_shape(video))
    edges = {"edges": [{"node": node(shortcode="SLIDE1")}, {"node": video}]}
    post = describe(to_current_shape(node(edge_sidecar_to_children=edges)), CODE)
    assert [item and item.type for item in post.items] == ["image", None]


def test_carousel_keeps_its_order_despite_missing_items() -> None:
    children = [node(shortcode="ITEM1"), node(shortcode="ITEM2", is_video=True)]
    children.append(node(shortcode="ITEM3", is_video=True, video_url=f"{CDN}v.mp4"))
    edges = {"edges": [{"node": child} for child in children]}
    post = describe(to_current_shape(node(edge_sidecar_to_children=edges)), CODE)
    assert [item and item.type for item in post.items] == ["image", None, "video"]
    slide = Shortcode("ITEM3")
    named = describe(to_current_shape(node(edge_sidecar_to_children=edges)), slide).named_item
    assert named == 3


@pytest.mark.parametrize("name", ["GraphSidecar", "XDTGraphSidecar"])
@pytest.mark.parametrize("children", [None, [], {}, "text", {"edges": None}, {"edges": []}])
def test_carousel_without_children_is_refused_despite_its_cover(name: str, children: Any) -> None:
    carousel = node(__typename=name, edge_sidecar_to_children=children)
    without_key = {key: carousel[key] for key in carousel if key != "edge_sidecar_to_children"}
    for media in (carousel, without_key, {**carousel, "is_video": True, "video_url": f"{CDN}v"}):
        with pytest.raises(Refused) as refused:
            describe(to_current_shape(media), CODE)
        assert refused.value.reason is Reason.CHANGED


@pytest.mark.parametrize("name", [None, 7, "", "GraphImage", ["GraphSidecar"], {"Video": 1}])
def test_only_a_string_is_read_as_a_type(name: object) -> None:
    (item,) = describe(to_current_shape(node(__typename=name)), CODE).items
    assert item is not None
    assert item.type == "image"


@pytest.mark.parametrize("sign", [{"is_video": True}, {"__typename": "GraphVideo"}])
def test_carousel_with_children_needs_no_video_of_its_own(sign: dict[str, Any]) -> None:
    edges = {"edges": [{"node": node(shortcode="ITEM1")}]}
    carousel = {**node(__typename="GraphSidecar", edge_sidecar_to_children=edges), **sign}
    media = to_current_shape(carousel)
    assert not lacks_files(media)
    assert describe(media, CODE).summary == "1 image"


@pytest.mark.parametrize("key", ["shortcode_media", "xdt_shortcode_media"])
def test_post_is_read_from_json_inside_json(key: str) -> None:
    context = json.dumps({"context": {}, "gql_data": {key: node()}})
    page = f'<script>x.handle({{"a":[{json.dumps({"contextJSON": context})}]}});</script>'
    assert node_in(page.encode()) == node()


@pytest.mark.parametrize(
    "page",
    ["", '{"contextJSON":null}', '{"contextJSON":"{}"}', '"contextJSON":"{\\"gql_data\\":null}"'],
)
def test_embed_page_without_the_post_returns_none(page: str) -> None:
    assert node_in(page.encode()) is None


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from(sorted(node(edge_sidecar_to_children=None))),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=2) | st.fixed_dictionaries({"edges": inner, "node": inner})
            ),
            max_leaves=6,
        ),
    )
)
def test_converting_a_node_never_raises(strange: dict[str, Any]) -> None:
    assert to_current_shape(strange)["media_type"] in (1, 2, 8)
