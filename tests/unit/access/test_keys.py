"""Files with API keys: which ones are valid, and when they are reloaded."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapper.access.keys import ApiKeys
from scrapper.errors import SettingsError
from scrapper.settings import Settings, load_settings

FILE = "# users\n\nalice:a-key-of-alice\nbob:b-key-of-bob:3\n"


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
def test_a_malformed_file_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        keys_of(tmp_path / "keys", text)
    assert "API_KEYS_FILE" in str(refusal.value)
    assert "key\n" not in str(refusal.value)


@settings(suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200))
def test_any_file_yields_keys_or_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    try:
        keys = ApiKeys(Settings(api_keys_file=path))
    except SettingsError:
        return
    assert keys.names()


def test_a_changed_file_is_reloaded_unless_damaged(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = keys_of(path, FILE)
    assert sorted(keys.names().values()) == ["alice", "bob"]
    path.write_text("carol:c-key-of-carol\n")
    keys.reload_if_changed()
    assert list(keys.names().values()) == ["carol"]
    path.write_text("nonsense")
    keys.reload_if_changed()
    assert list(keys.names().values()) == ["carol"]
    path.unlink()
    keys.reload_if_changed()
    assert list(keys.names().values()) == ["carol"]


def test_the_key_and_the_file_of_keys_are_both_read(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(FILE)
    keys = ApiKeys(load_settings(api_keys_file=path, api_key="one"))
    assert sorted(keys.names().values()) == ["alice", "bob", "default"]
    assert set(keys.secrets) == {"a-key-of-alice", "b-key-of-bob", "one"}
