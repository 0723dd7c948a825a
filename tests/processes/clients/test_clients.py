"""Clients are generated from the API's description, without a warning, and used for real."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.instagram import StandIn
from tests.process import Service
from tests.programs import output_of, program

KEY = "a-key-of-the-clients"
HERE = Path(__file__).parent
BIN = Path(sys.executable).parent

USE = """
import json, sys
from client import AuthenticatedClient
from client.api.jobs import create_job, get_job
from client.api.posts import download, list_posts, scrape
from client.models import ErrorResponse, JobRequest, ScrapeRequest

client = AuthenticatedClient(
    base_url=sys.argv[1], token=sys.argv[2], prefix="", auth_header_name="X-API-Key"
)
post = scrape.sync(client=client, body=ScrapeRequest(url="https://www.instagram.com/reel/reel-client/"))
listing = list_posts.sync(client=client, limit=1)
file = download.sync(post.shortcode, client=client)
job = create_job.sync(client=client, body=JobRequest(urls=["https://example.com/"]))
again = get_job.sync(job.id, client=client)
failed = scrape.sync(client=client, body=ScrapeRequest(url="https://example.com/"))
assert isinstance(failed, ErrorResponse)
print(json.dumps({
    "video": post.video,
    "listed": len(listing.posts),
    "bytes": len(file.payload.read()),
    "state": again.posts[0].code,
    "code": failed.code,
}))
"""


@pytest.fixture
def service(instagram: StandIn, tmp_path: Path) -> Iterator[Service]:
    environment = {**instagram.environment, "API_KEY": KEY, "INSTAGRAM_MAX_QUERIES": "0"}
    with Service(tmp_path / "media", environment) as service:
        yield service


@pytest.fixture
def description(service: Service, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(service.get("/openapi.json").text)
    return path


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs of package.json."""
    program("npm", packages="nodejs npm")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "tsconfig.json", "use.ts"):
        shutil.copy(HERE / name, folder)
    run(["npm", "install", "--no-package-lock", "--no-fund", "--no-audit"], folder)
    return folder


def run(command: Sequence[str | Path], folder: Path) -> str:
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    environment = {"PATH": path, "NO_COLOR": "1", "REDOCLY_TELEMETRY": "off"}
    return output_of(command, folder=folder, environment=environment)


def as_expected(text: str, service: Service, instagram: StandIn) -> None:
    said = json.loads(text.strip().splitlines()[-1])
    assert said["video"].endswith("/reel-client/reel-client.mp4")
    assert said == {
        "video": said["video"],
        "listed": 1,
        "bytes": len(instagram.bytes_of("reel-client")[0]),
        "state": "invalid_url",
        "code": "invalid_url",
    }


def test_a_generated_python_client_works(
    service: Service, description: Path, instagram: StandIn, tmp_path: Path
) -> None:
    generate = [str(BIN / "openapi-python-client"), "generate", "--path", str(description)]
    generate += ["--output-path", "client", "--meta", "none", "--fail-on-warning"]
    run(generate, tmp_path)
    use = tmp_path / "use.py"
    use.write_text(USE)
    as_expected(run([sys.executable, use, service.url, KEY], tmp_path), service, instagram)


def test_a_generated_typescript_client_compiles_and_works(
    service: Service, description: Path, instagram: StandIn, node: Path
) -> None:
    plugins = ["@hey-api/typescript", "@hey-api/sdk", "@hey-api/client-fetch"]
    generate = [str(node / "node_modules/.bin/openapi-ts"), "-i", str(description)]
    generate += ["-o", "client", "-p"]
    assert "warn" not in run([*generate, *plugins], node).lower()
    run([node / "node_modules/.bin/tsc", "--project", "tsconfig.json"], node)
    text = run(["node", "built/use.js", service.url, KEY], node)
    as_expected(text, service, instagram)


def test_redocly_finds_nothing_to_complain_of(description: Path, node: Path) -> None:
    said = run([node / "node_modules/.bin/redocly", "lint", description], node)
    assert "Your API description is valid" in said
    assert "warning" not in said.lower().replace("deprecation warning: node.js", "")
