"""``python -m scrapper doctor`` as a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.instagram import Scenario, StandIn
from tests.process import PATIENCE_SECONDS
from tests.service.instagram.test_sources import session_file

ROOT = Path(__file__).resolve().parents[2]


def doctor(link: str, media_root: Path, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "scrapper", "doctor", link],
        env={**os.environ, "PYTHONPATH": str(ROOT), "MEDIA_ROOT": str(media_root), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    return done.returncode, done.stdout, done.stderr


def rows(out: str) -> dict[str, list[str]]:
    lines = [line.split() for line in reversed(out.splitlines()) if line.strip()]
    return {line[0]: line for line in lines}


def test_each_source_is_queried_once_without_the_account(
    instagram: StandIn, media_root: Path, tmp_path: Path
) -> None:
    media_root.mkdir()
    instagram.set_scenario("partly", Scenario("", api="wait", web="post", page="throttled"))
    code, out, err = doctor(
        "https://www.instagram.com/p/partly-one/", media_root, **session_file(tmp_path, "alive")
    )
    assert (code, err) == (0, "")
    table = rows(out)
    assert table["api"][1] == table["root_query"][1] == "401"
    assert table["logged_out_api"][1:-1] == ["200", "has", "the", "post", "1", "video"]
    assert "the page without its data" in out
    assert table["embed"][1:4] == ["302", "a", "login"]
    assert "media_info (session)" in out
    assert table["session"][1:] == ["active,", "someone"]
    assert table["tokens"][2:] == ["s", "old"]
    assert table["clock"] == ["clock", "correct"]
    assert table["redis"] == ["redis", "not", "used"]
    assert f"{media_root}, writable" in out
    assert instagram.requests("account") == 0
    kinds = ("graphql", "root_query", "web_query", "post_page", "embed_page", "start_page")
    assert [instagram.requests(kind) for kind in kinds] == [1] * 6
    assert instagram.requests() == 6


def test_the_account_is_used_if_the_post_needs_it(
    instagram: StandIn, media_root: Path, tmp_path: Path
) -> None:
    instagram.set_scenario("closed", Scenario("", api="forbidden", page="gated"))
    code, out, _ = doctor(
        "https://www.instagram.com/p/closed-one/", media_root, **session_file(tmp_path, "alive")
    )
    assert code == 0
    assert instagram.requests("media_info") == 1
    assert "the post needs a login" in out


def test_advice_is_printed(instagram: StandIn, media_root: Path) -> None:
    code, out, _ = doctor("https://www.instagram.com/p/softblock-one/", media_root)
    assert code == 5
    assert "Instagram's rate limit has been reached" in out
    assert "- Wait a few hours, and request fewer posts." in out


def test_a_share_link_is_opened(instagram: StandIn, media_root: Path) -> None:
    code, out, _ = doctor("https://www.instagram.com/share/next-token/", media_root)
    assert code == 0
    assert "leads to the post reel-next-token" in out


@pytest.mark.parametrize("link", ["nonsense", "https://www.instagram.com/someone/"])
def test_a_link_that_is_not_a_post_is_wrong_usage(
    instagram: StandIn, media_root: Path, link: str
) -> None:
    code, out, err = doctor(link, media_root)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert instagram.requests() == 0


def test_no_secret_is_printed(instagram: StandIn, media_root: Path, tmp_path: Path) -> None:
    proxy = instagram.proxy_url.replace("http://", "http://someone:pr0xy-s3cret@")
    code, out, err = doctor(
        "https://www.instagram.com/p/reel-one/",
        media_root,
        **session_file(tmp_path, "alive-s3cret"),
        HTTPS_PROXY=proxy,
        https_proxy=proxy,
        LOG_LEVEL="debug",
    )
    assert code == 0
    assert "s3cret" not in out + err
    assert f"proxy    {instagram.proxy_url}, with a password" in out
