"""The dashboard and the alert rules use only metrics that the service has."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import StartService
from tests.redis_server import RedisServer

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
METRIC = re.compile(r"\b((?:http|scrape|redis|library|rate_limit|process)_[a-z_]+)(?=[{\[)])")


def expressions(path: Path) -> list[str]:
    if path.suffix == ".json":
        panels = json.loads(path.read_text())["panels"]
        return [target["expr"] for panel in panels for target in panel["targets"]]
    return [line for line in path.read_text().splitlines() if "scrapper" in line]


@pytest.fixture
def mode(redis_server: RedisServer) -> dict[str, str]:
    return {"REDIS_URL": redis_server.url}


@pytest.mark.parametrize("name", ["grafana/dashboard.json", "prometheus/alerts.yml"])
async def test_every_metric_that_is_shown_is_one_of_the_service_s(
    start_service: StartService, name: str
) -> None:
    client = await start_service()
    await client.get("/health")
    async with client.get("/metrics") as response:
        text = await response.text()
    known = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    known |= {f"{metric}{suffix}" for metric in known for suffix in ("_count", "_bucket")}
    shown = {metric for line in expressions(DEPLOY / name) for metric in METRIC.findall(line)}
    assert len(shown) > 5
    assert shown <= known
