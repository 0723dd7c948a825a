"""The containers that podman-compose creates from the Compose files and an .env file.

A fake engine records the commands.
"""

import itertools
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.programs import output_of

pytestmark = pytest.mark.blocks

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = dict(
    re.findall("^#([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE),
)
ENGINE = f"""#!{sys.executable}
import json, pathlib, sys
with pathlib.Path(__file__).with_name("calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + chr(10))
print("podman version 5.0.0" if "version" in sys.argv[1] else "[]")
"""


def created(
    folder: Path, settings: dict[str, str], file: str = "compose.yaml"
) -> dict[str, list[str]]:
    """Return, by service, the command that creates its container with these *settings*."""
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    shutil.copy(ROOT / "compose.yaml", folder)
    lines = [f"{name}={value}" for name, value in settings.items()]
    (folder / ".env").write_text("\n".join(lines))
    engine = folder / "engine"
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    command = [sys.executable, "-m", "podman_compose", "--podman-path", str(engine)]
    command += ["--file", file, "--env-file", ".env", "up", "--detach", "--no-build"]
    output_of(command, folder=folder)
    calls = [json.loads(line) for line in (folder / "calls").read_text().splitlines()]
    label = "io.podman.compose.service="
    return {
        next(part for part in call if part.startswith(label)).removeprefix(label): call
        for call in calls
        if call[0] == "create"
    }


def environment(call: list[str]) -> dict[str, str]:
    """Return a container's environment variables. If one is repeated, the last value counts."""
    given = [value for option, value in itertools.pairwise(call) if option == "-e"]
    return dict(value.split("=", 1) for value in given)


def test_every_setting_in_env_reaches_the_container(tmp_path: Path) -> None:
    settings = {name: value or "something" for name, value in EXAMPLE.items()}
    settings |= {"DATA_FOLDER": "./posts"}
    call = created(tmp_path, settings)["scrapper"]
    assert environment(call).items() >= settings.items()


def test_folder_user_port_and_image_come_from_env(tmp_path: Path) -> None:
    settings = {"DATA_FOLDER": "./posts", "PUID": "1000", "PGID": "100", "PORT": "8080"}
    call = created(tmp_path, settings | {"IMAGE": "registry.example/scrapper:1"})["scrapper"]
    assert f"{tmp_path / 'posts'}:/data" in call
    assert call[call.index("-u") + 1] == "1000:100"
    assert call[call.index("-p") + 1] == "8080:8080"
    assert call[-1] == "registry.example/scrapper:1"


def test_without_env_nothing_is_set(tmp_path: Path) -> None:
    call = created(tmp_path, {})["scrapper"]
    assert set(environment(call).values()) == {""}
    assert call[call.index("-u") + 1] == "10001:10001"


def test_with_https_only_caddy_publishes_ports(tmp_path: Path) -> None:
    settings = {"DOMAIN": "posts.example.org", "API_KEY": "s3cret", "PORT": "8080"}
    calls = created(tmp_path, settings, "deploy/caddy/single.yaml")
    assert set(calls) == {"caddy", "scrapper"}
    assert environment(calls["caddy"])["DOMAIN"] == "posts.example.org"
    assert "-p" not in calls["scrapper"]
    # The Caddyfile uses this port.
    assert environment(calls["scrapper"])["PORT"] == "5633"
    assert environment(calls["scrapper"])["API_KEY"] == "s3cret"
