"""Several named keys: access, limits and the log."""

import asyncio
from pathlib import Path

from tests.conftest import StartService, both_modes
from tests.instagram import StandIn
from tests.process import Service, wait_for

FILE = "# who may\n\nalice:a-key-of-alice\nbob:b-key-of-bob:3\n"


@both_modes
async def test_each_key_has_its_own_limit_or_the_default(
    instagram: StandIn, start_service: StartService, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    await asyncio.to_thread(path.write_text, FILE)
    client = await start_service(
        API_KEYS_FILE=str(path), API_KEY="the-key-without-a-name", RATE_LIMIT_MAX_REQUESTS="5"
    )

    async def limit(**headers: str) -> str | None:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        async with client.post("/scrape", data="{}", headers=names) as response:
            assert response.status in (400, 401)
            return response.headers.get("RateLimit-Limit")

    assert await limit(X_API_Key="b-key-of-bob") == "3"
    assert await limit(Authorization="Bearer b-key-of-bob") == "3"
    assert await limit(X_API_Key="a-key-of-alice") == "5"
    assert await limit(X_API_Key="the-key-without-a-name") == "5"
    assert await limit(X_API_Key="wrong") == "5"


def test_the_log_names_the_key_without_its_value(
    instagram: StandIn, media_root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    path.write_text("carol:tiny-key\n")
    environment = {**instagram.environment, "API_KEYS_FILE": str(path)}
    with Service(media_root, environment) as service:
        service.headers["Authorization"] = "Bearer tiny-key"
        assert service.get("/posts").status_code == 200
        # Without the key, the cookie of a session is enough.
        assert service.post("/session", {}).status_code == 204
        del service.headers["Authorization"]
        assert service.get("/posts").status_code == 200
        assert service.delete("/session").status_code == 204
        path.write_text("dave:d-key-that-came-later\n")
        service.headers["Authorization"] = "Bearer d-key-that-came-later"
        wait_for(lambda: service.get("/posts").status_code == 200)
        service.get("/posts/d-key-that-came-later")
        service.terminate()
        service.wait()
    lines = [line for line in service.log if line["event"] == "request"]
    assert [line["key"] for line in lines if line["status"] == 200 and "key" in line] == [
        "carol",
        "carol",
        "dave",
    ]
    assert service.logged("API key is short: it can be guessed") == 1
    assert "d-key-that-came-later" not in "".join(service.raw_log)
