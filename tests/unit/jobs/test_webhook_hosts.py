"""The hosts and addresses that webhooks may be sent to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapper.errors import SettingsError
from scrapper.jobs.webhooks import WebhookHosts
from scrapper.settings import load_settings

SECRET = "whsec_" + "c2VjcmV0" * 6


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
    ],
)
def test_names_resolve_only_to_public_addresses(address: str, public: bool) -> None:
    assert WebhookHosts(["example.com"], []).allow_address(address) is public


@given(st.ip_addresses())
def test_every_address_is_accepted_or_rejected(address: Any) -> None:
    assert isinstance(WebhookHosts([], []).allow_address(str(address)), bool)


@given(st.text())
def test_a_url_with_another_scheme_is_rejected(url: str) -> None:
    assert WebhookHosts(["localhost"], []).allow(f"x{url}") is False


@pytest.mark.parametrize(
    "settings",
    [
        {"WEBHOOK_HOSTS": "localhost"},
        {"WEBHOOK_HOSTS": "https://localhost/", "WEBHOOK_SECRET": SECRET},
        {"WEBHOOK_SECRET": "short"},
        {"WEBHOOK_SECRET": "whsec_c2VjcmV0"},
    ],
)
def test_the_error_names_the_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value).startswith("WEBHOOK_")
    assert settings.get("WEBHOOK_SECRET", "unset") not in str(refused.value)
