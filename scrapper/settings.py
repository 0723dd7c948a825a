"""The settings, read from the environment and validated at startup."""

import math
import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import getproxies_environment

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from scrapper.errors import SettingsError
from scrapper.local_files.certificates import load_certificate
from scrapper.local_files.opening import read_file
from scrapper.setting_types import (
    DAY,
    OWN_MIDDLEWARES,
    YEAR,
    AuthProxies,
    BasePathText,
    DownloadName,
    Factories,
    Folder,
    HeaderName,
    HostNames,
    HostsOrNetworks,
    Key,
    Middlewares,
    Modules,
    Peers,
    Port,
    ReadableFile,
    RedisURL,
    Seconds,
    SocketMode,
    SocketPath,
    VideoQuality,
    WebhookSecret,
    is_network,
    proxy_error,
)

__all__ = [
    "GRACE_SECONDS",
    "PRIVATE_NETWORKS",
    "LogSettings",
    "Network",
    "Settings",
    "explain",
    "load_settings",
    "near_misses",
]


Network = IPv4Network | IPv6Network

PRIVATE_NETWORKS: tuple[Network, ...] = tuple(
    ip_network(block)
    for block in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
"""Loopback, private and link-local addresses: RFC 1918, 3927, 4193 and 4291."""


GRACE_SECONDS = 5.0
"""How many seconds beyond the scrape timeout a stopping process waits for scrapes."""

_MAX_KEY_BYTES = 4096
_PROXIES = ("https_proxy", "all_proxy")
_OTHER_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE")
# Variables of OpenTelemetry and OpenSSL resemble our settings but are not mistakes.
_NOT_MISSPELLED = ("OTEL_", "SSL_CERT_FILE")
_MIN_SIMILARITY = 0.82
_SECRETS = (
    "api_key",
    "api_key_file",
    "api_keys_file",
    "tls_key_file",
    "redis_url",
    "webhook_secret",
    "instagram_cookies_file",
    "instagram_session_file",
    "instagram_username",
)


def _default_media_root() -> Path:
    """Return the default of ``MEDIA_ROOT``.

    It is ``/data/instaloader`` if ``/data`` exists, as in the image, or else ``data/instaloader``.
    """
    data = Path("/data")
    return (data if data.is_dir() else Path("data")) / "instaloader"


class LogSettings(BaseSettings):
    """The settings that are needed to log errors in the other settings."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
    ] = "info"
    log_format: Literal["json", "console"] = "json"
    otel_traces_exporter: Literal["none", "otlp"] = "none"

    @classmethod
    def or_defaults(cls) -> "LogSettings":
        """Read the settings. If one is invalid, return the defaults. Errors are reported later."""
        try:
            return cls()
        except ValidationError:
            return cls.model_construct()


class Settings(LogSettings):
    """All settings of the service. Each field is named after its environment variable."""

    api_key: Key = SecretStr("")
    api_key_file: ReadableFile | None = None
    api_keys_file: ReadableFile | None = None
    host: str = "0.0.0.0"  # noqa: S104 - a container is reached through its network
    port: Port = 5633
    unix_socket: SocketPath | None = None
    unix_socket_mode: SocketMode = 0o660
    tls_cert_file: ReadableFile | None = None
    tls_key_file: Annotated[ReadableFile | None, Field(validate_default=True)] = None
    auth_proxies: AuthProxies = ()
    auth_proxy_header: Annotated[HeaderName, Field(validate_default=True)] = ""
    media_root: Folder = Field(default_factory=_default_media_root, validate_default=True)
    download_name: DownloadName = "{shortcode}"
    max_url_length: PositiveInt = 512
    max_json_body_bytes: PositiveInt = 4096
    rate_limit_max_requests: NonNegativeInt = 30
    rate_limit_window_seconds: Annotated[int, Field(gt=0, le=YEAR)] = 60
    rate_limit_max_ips: PositiveInt = 10_000
    base_path: BasePathText = ""
    allowed_hosts: HostNames = ()
    trusted_proxies: Peers = ()
    trust_proxy: bool = False
    max_media_age_days: Annotated[float, Field(ge=0, le=36_500)] = 7
    media_cleanup_interval_seconds: Seconds = 3600
    scrape_concurrency: Annotated[int, Field(gt=0, le=1024)] = 8
    download_concurrency: Annotated[int, Field(gt=0, le=1024)] | None = None
    scrape_queue_limit: NonNegativeInt = 256
    scrape_timeout_seconds: Seconds = 55
    video_quality: VideoQuality = "compatible"
    max_media_mb: PositiveInt = 1024
    min_free_disk_mb: NonNegativeInt = 100
    max_connections: PositiveInt = 4096
    client_timeout_seconds: Seconds = 20
    redis_url: RedisURL = SecretStr("")
    worker_port: Port | None = None
    worker_grace_seconds: Annotated[float, Field(ge=0, le=YEAR)] | None = None
    webhook_hosts: HostsOrNetworks = ()
    webhook_secret: WebhookSecret = SecretStr("")
    max_jobs: PositiveInt = 100
    job_patience_seconds: Annotated[float, Field(ge=0, le=YEAR)] = 21_600
    max_job_age_days: Annotated[float, Field(gt=0, le=36_500)] = 7
    instagram_cookies_file: ReadableFile | None = None
    instagram_session_file: ReadableFile | None = None
    instagram_username: str = ""
    instagram_login_use: Literal["needed", "always"] = "needed"
    instagram_doc_id: Annotated[str, Field(pattern="^[0-9]{1,30}$")] = "27130156389949648"
    instagram_max_queries: NonNegativeInt = 200
    instagram_window_seconds: Seconds = 660
    instagram_cooldown_seconds: Annotated[float, Field(ge=0, le=YEAR)] = 300
    middlewares: Middlewares = OWN_MIDDLEWARES
    middlewares_unchecked: bool = False
    extra_middlewares: Factories = ()
    plugins: Modules = ()
    plugin_timeout_seconds: Seconds = 900

    @field_validator("api_key_file")
    @classmethod
    def _check_key_file(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None:
            if info.data.get("api_key", SecretStr("")).get_secret_value():
                raise ValueError("API_KEY is set, too: set only one of the two")
            if not _read_key(path):
                raise ValueError(f"{path} is empty")
        return path

    @field_validator("auth_proxies")
    @classmethod
    def _check_auth_proxies(cls, proxies: tuple[str, ...], info: ValidationInfo) -> Any:
        """Replace the path of a Unix socket with ``unix``.

        The path must be that of ``UNIX_SOCKET``.
        """
        own = info.data.get("unix_socket")
        for proxy in proxies:
            is_path = proxy.startswith("/")
            if (is_path or proxy == "unix") and (own is None or (is_path and Path(proxy) != own)):
                raise ValueError(f"{proxy}: UNIX_SOCKET must be set to the same socket")
        return tuple("unix" if proxy.startswith("/") else proxy for proxy in proxies)

    @field_validator("auth_proxy_header")
    @classmethod
    def _check_proxy_header(cls, header: str, info: ValidationInfo) -> str:
        if bool(info.data.get("auth_proxies", header)) != bool(header):
            raise ValueError("set both AUTH_PROXY_HEADER and AUTH_PROXIES, or neither")
        return header

    @field_validator("tls_key_file")
    @classmethod
    def _check_tls_key(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        certificate = info.data.get("tls_cert_file", key)
        if (certificate is None) != (key is None):
            raise ValueError("set both TLS_CERT_FILE and TLS_KEY_FILE, or neither")
        if certificate is not None and key is not None:
            load_certificate(certificate, key)
        return key

    @field_validator("webhook_secret")
    @classmethod
    def _check_webhook_secret(cls, secret: SecretStr, info: ValidationInfo) -> SecretStr:
        if info.data.get("webhook_hosts") and not secret.get_secret_value():
            raise ValueError("must be set if WEBHOOK_HOSTS is set, to sign the webhooks")
        return secret

    @field_validator("instagram_username")
    @classmethod
    def _check_username(cls, username: str, info: ValidationInfo) -> str:
        session_file = info.data.get("instagram_session_file", username)
        if bool(session_file) != bool(username):
            raise ValueError("set both INSTAGRAM_SESSION_FILE and INSTAGRAM_USERNAME, or neither")
        return username

    @field_validator("instagram_session_file")
    @classmethod
    def _check_session_file(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and info.data.get("instagram_cookies_file"):
            raise ValueError("INSTAGRAM_COOKIES_FILE is set, too: set only one of the two")
        return path

    @property
    def key(self) -> str:
        """The API key from ``API_KEY`` or its file; empty if no key is set."""
        if self.api_key_file is not None:
            return _read_key(self.api_key_file)
        return self.api_key.get_secret_value()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that no log line may contain: API key, Redis password and webhook secret."""
        url = urlsplit(self.redis_url.get_secret_value())
        passwords = [url.password or "", *parse_qs(url.query).get("password", [])]
        webhook_secret = self.webhook_secret.get_secret_value()
        return (self.key, webhook_secret, *passwords, *map(unquote, passwords))

    def without_secrets(self) -> "Settings":
        """Return a copy without keys, cookies and passwords, for third-party code."""
        return self.model_copy(
            update={name: type(self).model_fields[name].default for name in _SECRETS}
        )

    @property
    def session_file(self) -> Path | None:
        """The file with the Instagram session: a browser's cookies, or an Instaloader session."""
        return self.instagram_cookies_file or self.instagram_session_file

    @property
    def max_downloads(self) -> int:
        """The maximum number of files downloaded at the same time."""
        return self.download_concurrency or self.scrape_concurrency

    @property
    def worker_grace(self) -> float:
        """How many seconds a stopping worker has to finish its downloads."""
        given = self.worker_grace_seconds
        return self.scrape_timeout_seconds + GRACE_SECONDS if given is None else given

    @property
    def max_media_bytes(self) -> int:
        """The maximum size of a downloaded file in bytes."""
        return self.max_media_mb * 1_000_000

    @property
    def min_free_bytes(self) -> int:
        """The number of bytes to leave free on the disk."""
        return self.min_free_disk_mb * 1_000_000

    @property
    def max_media_age_seconds(self) -> float:
        """The age in seconds at which a stored post is removed; infinity if set to 0 days."""
        return self.max_media_age_days * DAY or math.inf

    @property
    def max_job_age_seconds(self) -> float:
        """How many seconds a finished job is kept."""
        return self.max_job_age_days * DAY

    @property
    def webhook_networks(self) -> tuple[Network, ...]:
        """The networks of ``WEBHOOK_HOSTS``."""
        return tuple(ip_network(host) for host in self.webhook_hosts if is_network(host))

    @property
    def webhook_names(self) -> tuple[str, ...]:
        """The host names of ``WEBHOOK_HOSTS``."""
        return tuple(host for host in self.webhook_hosts if not is_network(host))

    @property
    def seconds_per_query(self) -> float:
        """The seconds between queries if they are spread evenly; 0 if queries are not limited."""
        queries = self.instagram_max_queries
        return self.instagram_window_seconds / queries if queries else 0.0

    @property
    def proxies(self) -> tuple[Network | Literal["unix"], ...]:
        """The networks, and possibly the Unix socket, whose ``X-Forwarded-For`` is trusted."""
        return self.trusted_proxies + (PRIVATE_NETWORKS if self.trust_proxy else ())


def _read_key(path: Path) -> str:
    try:
        return read_file(path, _MAX_KEY_BYTES).decode().strip()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None


def load_settings(**given: Any) -> Settings:
    """Read the settings from the environment; the *given* settings take precedence.

    Raises:
        SettingsError: a setting is invalid; the message has one line per error.
    """
    errors = list(_proxy_errors())
    try:
        settings = Settings(**given)
    except ValidationError as error:
        errors.insert(0, explain(error))
    if errors:
        raise SettingsError("\n".join(errors))
    return settings


def _proxy_errors() -> Iterator[str]:
    """Yield a message if the proxy for requests to Instagram is invalid."""
    proxies = getproxies_environment()
    url = proxies.get("https") or proxies.get("all")
    error = proxy_error(url) if url else None
    if error is not None:
        named = (name for name, value in os.environ.items() if value == url)
        yield f"{next(name for name in named if name.lower() in _PROXIES)}: {error}"


def near_misses(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each of the *names* that looks like a misspelled setting, with the correct name."""
    settings = [*sorted(map(str.upper, Settings.model_fields)), *_OTHER_VARIABLES]
    for name in sorted(names):
        text = name.upper()
        if text in settings or text.startswith(_NOT_MISSPELLED):
            continue
        near = get_close_matches(text, settings, n=1, cutoff=_MIN_SIMILARITY)
        near = near or [setting for setting in settings if _omits_words(text, setting)]
        if near:
            yield name, near[0]


def _omits_words(name: str, setting: str) -> bool:
    """Return whether *name* is *setting* with some words left out.

    For example, MAX_AGE_DAYS is MAX_MEDIA_AGE_DAYS without MEDIA.
    """
    words, left = name.split("_"), iter(setting.split("_"))
    return len(words) > 1 and all(word in left for word in words)


def explain(error: ValidationError) -> str:
    """Describe the errors in the settings, one per line, without quoting the values."""
    return "\n".join(_describe_error(details) for details in error.errors())


def _describe_error(details: Any) -> str:
    # The value may be a secret, so the message does not contain it.
    message = details["msg"].removeprefix("Value error, ")
    return f"{details['loc'][0].upper()}: {message}" if details["loc"] else message
