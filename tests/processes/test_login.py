"""``python -m scrapper login`` as a process."""

import asyncio
import os
import pickle
from pathlib import Path

import pytest

from tests.conftest import StartService
from tests.instagram import StandIn
from tests.process import run
from tests.service.handlers.test_login import cookies_txt

PRIVATE = {"url": "https://www.instagram.com/p/private-command/"}


async def login(
    *arguments: str, media_root: Path, stdin: str = "", **environment: str
) -> tuple[int, str, str]:
    environment = {**os.environ, "MEDIA_ROOT": str(media_root), **environment}
    done = await asyncio.to_thread(run, "login", *arguments, given=stdin, environment=environment)
    return done.returncode, done.stdout, done.stderr


def private_file(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    path.chmod(0o600)
    return str(path)


async def test_a_running_service_uses_and_forgets_the_cookies(
    instagram: StandIn, start_service: StartService, media_root: Path, tmp_path: Path
) -> None:
    client = await start_service()
    assert (await client.post("/scrape", json=PRIVATE)).status == 403
    file = private_file(tmp_path / "cookies.txt", cookies_txt("alive").encode())
    folder = f"Media folder: {media_root}\n"
    assert await login(file, media_root=media_root) == (0, "Logged in as alive.user.\n", folder)
    while (await client.post("/scrape", json=PRIVATE)).status != 200:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert await login("--forget", media_root=media_root) == (0, "Logged out.\n", folder)
    while (await (await client.get("/ready")).json())["login"] != "none":  # noqa: ASYNC110
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("way", ["standard input", "Instaloader's file", "settings"])
async def test_cookies_come_from_files_settings_or_standard_input(
    instagram: StandIn, media_root: Path, tmp_path: Path, way: str
) -> None:
    match way:
        case "standard input":
            done = await login("-", media_root=media_root, stdin=cookies_txt("alive"))
        case "settings":
            file = private_file(tmp_path / "c", cookies_txt("alive").encode())
            done = await login(media_root=media_root, INSTAGRAM_COOKIES_FILE=file)
        case _:
            content = pickle.dumps({"sessionid": "alive-session", "ds_user_id": "1"})
            done = await login(private_file(tmp_path / "s", content), media_root=media_root)
    assert done[:2] == (0, "Logged in as alive.user.\n")
    assert done[2].splitlines() == [
        f"Media folder: {media_root}",
        f"No service has used {media_root} yet: is this the service's MEDIA_ROOT?",
    ]
    assert instagram.requests() == 2 * instagram.requests("account") == 2


@pytest.mark.parametrize(("session", "code"), [("expired", 4), ("challenged", 4)])
async def test_a_dead_session_is_not_stored(
    instagram: StandIn, media_root: Path, session: str, code: int
) -> None:
    done = await login("-", media_root=media_root, stdin=cookies_txt(session))
    assert done[:2] == (code, "")
    assert "Instagram" in done[2]
    assert "Traceback" not in done[2]
    assert not (media_root / ".state" / "login.json").exists()


@pytest.mark.parametrize("arguments", [(), ("/nonexistent",), ("-",), ("--forget", "file")])
async def test_wrong_usage_exits_with_2_and_a_message(
    media_root: Path, arguments: tuple[str, ...]
) -> None:
    code, out, err = await login(*arguments, media_root=media_root)
    assert (code, out) == (2, "")
    assert err
    assert "Traceback" not in err
