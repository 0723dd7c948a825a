"""The package, built with uv, and installed with uv, pipx and uvx in empty environments."""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from requirements.check_wheels import ARCHITECTURES, wheel_options
from scrapper import __version__
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS, free_port, wait_for_answer
from tests.programs import PROXIES, output_of

pytestmark = pytest.mark.blocks

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("LICENSE", "README.md", "middlewares", "pyproject.toml", "requirements", "scrapper")
UV: tuple[str | Path, ...] = (sys.executable, "-m", "uv")
URL = "https://www.instagram.com/reel/reel-package/"
# uv and pip bring their own certificates, but a mirror may need those of the system.
_CERTIFICATES = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
TRUST = {name: _CERTIFICATES for name in ("SSL_CERT_FILE", "PIP_CERT") if _CERTIFICATES} | PROXIES
VERSION_LINE = f"instagram-scrapper {__version__}\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone, including uncommitted changes."""
    folder = tmp_path_factory.mktemp("repository")
    for name in SOURCES:
        source, copy = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    author = ["-c", "user.name=Someone", "-c", "user.email=someone@example.com"]
    for command in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "-m", "All"]):
        output_of(["git", "-C", folder, *command])
    return folder


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    lock = ["--build-constraints", "requirements/build.txt", "--require-hashes"]
    output_of(
        [*UV, "build", "--quiet", *lock, "--out-dir", folder, repository],
        folder=ROOT,
        environment=TRUST,
    )
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The ``bin`` folder of an environment with only the wheel and its requirements."""
    folder = tmp_path_factory.mktemp("installed")
    output_of([*UV, "venv", "--quiet", "--python", sys.executable, folder])
    install = [*UV, "pip", "install", "--quiet", "--python", folder / "bin/python"]
    output_of([*install, wheel], environment=TRUST)
    yield folder / "bin"
    shutil.rmtree(folder)


def bare_environment(home: Path) -> dict[str, str]:
    """Return the variables of a fresh machine: a search path, a home, and certificates."""
    return {"HOME": str(home), "PATH": os.environ["PATH"], **TRUST}


def test_the_wheel_contains_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [file for name in ("middlewares", "scrapper") for file in (ROOT / name).rglob("*")]
    assert packed == {
        str(file.relative_to(ROOT))
        for file in files
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_the_wheel_requires_the_listed_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = archive.read(name).decode()
    required: dict[str, set[str]] = {"base": set()}
    for line in re.findall("^Requires-Dist: (.*)$", metadata, re.MULTILINE):
        requirement, _, marker = line.partition("; extra == ")
        required.setdefault(marker.strip("\"'") or "base", set()).add(requirement)
    for name, requirements in required.items():
        listed = (ROOT / f"requirements/{name}.in").read_text().splitlines()
        assert {_normal(line) for line in listed if not line.startswith("#")} == {
            _normal(requirement) for requirement in requirements
        }
    assert {"docs", "otel", "redis", "s3"} <= set(required)


def _normal(requirement: str) -> tuple[str, frozenset[str]]:
    name, ranges = re.fullmatch(r"([\w.\[\]-]+) *(.*)", requirement).groups()  # type: ignore[union-attr]
    return name.lower(), frozenset(filter(None, ranges.replace(" ", "").split(",")))


@pytest.mark.parametrize("architecture", ARCHITECTURES.values())
def test_a_plain_install_compiles_nothing(wheel: Path, architecture: str, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
    install += wheel_options(architecture, tmp_path)
    output_of([*install, f"{wheel}[otel,redis,s3]"], environment=TRUST)


def test_the_installed_command_serves_posts(
    installed: Path, instagram: StandIn, tmp_path: Path
) -> None:
    port = str(free_port())
    address = {"HOST": "127.0.0.1", "PORT": port, "MEDIA_ROOT": str(tmp_path / "posts")}
    url = f"http://127.0.0.1:{port}"
    command = [installed / "instagram-scrapper"]
    with (
        requests.Session() as session,
        subprocess.Popen(
            command,
            env={**bare_environment(tmp_path), **instagram.environment, **address},
            cwd=tmp_path,
        ) as process,
    ):
        session.trust_env = False
        try:
            wait_for_answer(f"{url}/health")
            assert session.post(f"{url}/scrape", json={"url": URL}, timeout=60).status_code == 200
            file = session.get(f"{url}/download/reel-package", timeout=60)
            assert [file.content] == instagram.bytes_of("reel-package")
            assert "page.js" in session.get(f"{url}/", timeout=60).text
            assert "instagram-scrapper[docs]" in session.get(f"{url}/docs", timeout=60).text
        finally:
            process.terminate()
    assert process.returncode == 0


def test_the_installed_command_downloads_posts(
    installed: Path, instagram: StandIn, tmp_path: Path
) -> None:
    environment = {**bare_environment(tmp_path), **instagram.environment}
    done = subprocess.run(
        [installed / "instagram-scrapper", "fetch", URL, "--into", "posts"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    [item] = json.loads(done.stdout)["media"]
    assert [Path(tmp_path, item["path"]).read_bytes()] == instagram.bytes_of("reel-package")


def test_a_plugin_is_checked_against_the_installed_types(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs/plugin-template", tmp_path / "plugin")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    mypy += ["--python-executable", str(installed / "python"), "instagram_scrapper_notes.py"]
    assert "Success" in output_of(mypy, folder=tmp_path / "plugin")


@pytest.mark.parametrize("spec", ["{}", "git+file://{}"])
def test_uvx_runs_a_clone(repository: Path, tmp_path: Path, spec: str) -> None:
    environment = bare_environment(tmp_path)
    run = [*UV, "tool", "run", "--quiet", "--from", spec.format(repository)]
    done = subprocess.run(
        [*run, "instagram-scrapper", "--version"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.stdout == VERSION_LINE


def test_pipx_installs_a_clone(repository: Path, tmp_path: Path) -> None:
    environment = bare_environment(tmp_path)
    pipx = [sys.executable, "-m", "pipx", "install", "--quiet", str(repository)]
    subprocess.run(pipx, env=environment, cwd=tmp_path, check=True, timeout=PATIENCE_SECONDS)
    command = [str(tmp_path / ".local/bin/instagram-scrapper"), "--version"]
    assert output_of(command, environment=environment, folder=tmp_path) == VERSION_LINE
