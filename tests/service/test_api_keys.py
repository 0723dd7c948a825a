"""Several keys with names: who may come in, with which limit, and what the log says."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapper.access.keys import ApiKeys
from scrapper.errors import SettingsError
from scrapper.settings import Settings, load_settings
from tests.conftest import StartService
from tests.instagram import StandIn
from tests.process import Service, wait_for

FILE = "# who may\n\nalice:a-key-of-alice\nbob:b-key-of-bob:3\n"


def keys_of(path: Path, text: str) -> ApiKeys:
    path.write_text(text)
    return ApiKeys(Settings(api_keys_file=path))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nobody\n",
        "alice\n",
        "alice:\n",
        ":key\n",
        "a b:key\n",
        "alice:k ey\n",
        "alice:key:many\n",
        "alice:key:1:2\n",
        "alice:clé\n",
    ],
)
def test_a_file_of_another_shape_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        keys_of(tmp_path / "keys", text)
    assert "API_KEYS_FILE" in str(refusal.value)
    assert "key\n" not in str(refusal.value)


@settings(suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200))
def test_any_file_is_keys_or_a_clear_refusal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    try:
        keys = ApiKeys(Settings(api_keys_file=path))
    except SettingsError:
        return
    assert keys.names()


def test_a_changed_file_counts_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = keys_of(path, FILE)
    assert sorted(keys.names().values()) == ["alice", "bob"]
    path.write_text("carol:c-key-of-carol\n")
    keys.look()
    assert list(keys.names().values()) == ["carol"]
    path.write_text("nonsense")
    keys.look()
    assert list(keys.names().values()) == ["carol"]
    path.unlink()
    keys.look()
    assert list(keys.names().values()) == ["carol"]


async def test_each_key_has_its_own_limit_or_its_address_s(
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


def test_the_log_has_the_key_s_name_and_never_the_key(
    instagram: StandIn, media_root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    path.write_text("carol:tiny-key\n")
    environment = {**instagram.environment, "API_KEYS_FILE": str(path)}
    with Service(media_root, environment) as service:
        service.headers["Authorization"] = "Bearer tiny-key"
        assert service.get("/posts").status_code == 200
        # The cookie of a session goes on where the key is left out.
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


def test_both_files_of_keys_are_read(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(FILE)
    keys = ApiKeys(load_settings(api_keys_file=path, api_key="one"))
    assert sorted(keys.names().values()) == ["alice", "bob", "default"]
    assert set(keys.secrets) == {"a-key-of-alice", "b-key-of-bob", "one"}
