"""The settings, read from the environment and checked at start."""

import math
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

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
from scrapper.local_files.opening import read_file
from scrapper.setting_types import (
    DAY,
    OWN_MIDDLEWARES,
    YEAR,
    BasePathText,
    DownloadName,
    Factories,
    Folder,
    HostNames,
    HostsOrNetworks,
    Key,
    Middlewares,
    Modules,
    Networks,
    Port,
    ReadableFile,
    RedisURL,
    Seconds,
    VideoQuality,
    WebhookSecret,
    is_network,
)

__all__ = ["PRIVATE_NETWORKS", "LogSettings", "Network", "Settings", "explain", "load_settings"]


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


_MAX_KEY_BYTES = 4096
_SECRETS = (
    "api_key",
    "api_key_file",
    "api_keys_file",
    "redis_url",
    "webhook_secret",
    "instagram_cookies_file",
    "instagram_session_file",
    "instagram_username",
)


def _usual_media_root() -> Path:
    """The image's folder where there is one, else one in the current folder."""
    data = Path("/data")
    return (data if data.is_dir() else Path("data")) / "instaloader"


class LogSettings(BaseSettings):
    """The settings that are needed to log what comes of all others."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
    ] = "info"
    log_format: Literal["json", "console"] = "json"
    otel_traces_exporter: Literal["none", "otlp"] = "none"

    @classmethod
    def or_defaults(cls) -> "LogSettings":
        """Those of the environment, or the defaults if one is wrong, which is reported later."""
        try:
            return cls()
        except ValidationError:
            return cls.model_construct()


class Settings(LogSettings):
    """Every setting of the service; the names are those of the environment, in lower case."""

    api_key: Key = SecretStr("")
    api_key_file: ReadableFile | None = None
    api_keys_file: ReadableFile | None = None
    host: str = "0.0.0.0"  # noqa: S104 - a container is reached from outside
    port: Port = 5633
    media_root: Folder = Field(default_factory=_usual_media_root, validate_default=True)
    download_name: DownloadName = "{shortcode}"
    max_url_length: PositiveInt = 512
    max_json_body_bytes: PositiveInt = 4096
    rate_limit_max_requests: NonNegativeInt = 30
    rate_limit_window_seconds: Annotated[int, Field(gt=0, le=YEAR)] = 60
    rate_limit_max_ips: PositiveInt = 10_000
    base_path: BasePathText = ""
    allowed_hosts: HostNames = ()
    trusted_proxies: Networks = ()
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
    def _is_only_key(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None:
            if info.data.get("api_key", SecretStr("")).get_secret_value():
                raise ValueError("API_KEY is set too: set one of the two")
            if not _key_in(path):
                raise ValueError(f"{path} is empty")
        return path

    @field_validator("webhook_secret")
    @classmethod
    def _goes_with_hosts(cls, secret: SecretStr, info: ValidationInfo) -> SecretStr:
        if info.data.get("webhook_hosts") and not secret.get_secret_value():
            raise ValueError("WEBHOOK_HOSTS is set: set a secret too, to sign the webhooks")
        return secret

    @field_validator("instagram_username")
    @classmethod
    def _goes_with_session(cls, username: str, info: ValidationInfo) -> str:
        session_file = info.data.get("instagram_session_file", username)
        if bool(session_file) != bool(username):
            raise ValueError("set both INSTAGRAM_SESSION_FILE and INSTAGRAM_USERNAME, or neither")
        return username

    @field_validator("instagram_session_file")
    @classmethod
    def _is_only_session(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and info.data.get("instagram_cookies_file"):
            raise ValueError("INSTAGRAM_COOKIES_FILE is set too: set one of the two")
        return path

    @property
    def key(self) -> str:
        """The API key, from wherever it is set; empty if the service is open."""
        if self.api_key_file is not None:
            return _key_in(self.api_key_file)
        return self.api_key.get_secret_value()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log line may hold: the API key, Redis's password, the webhooks' secret."""
        url = urlsplit(self.redis_url.get_secret_value())
        passwords = [url.password or "", *parse_qs(url.query).get("password", [])]
        webhook_secret = self.webhook_secret.get_secret_value()
        return (self.key, webhook_secret, *passwords, *map(unquote, passwords))

    def without_secrets(self) -> "Settings":
        """These settings for code that is not ours: no keys, cookies or passwords."""
        return self.model_copy(
            update={name: type(self).model_fields[name].default for name in _SECRETS}
        )

    @property
    def session_file(self) -> Path | None:
        """The file with the session, in whichever format it is set."""
        return self.instagram_cookies_file or self.instagram_session_file

    @property
    def files_at_once(self) -> int:
        """How many files are downloaded at the same time."""
        return self.download_concurrency or self.scrape_concurrency

    @property
    def max_media_bytes(self) -> int:
        """The size of the largest file that is downloaded."""
        return self.max_media_mb * 1_000_000

    @property
    def min_free_bytes(self) -> int:
        """Bytes of the disk that stay free."""
        return self.min_free_disk_mb * 1_000_000

    @property
    def max_media_age_seconds(self) -> float:
        """The age at which a stored post is removed; infinite for 0 days."""
        return self.max_media_age_days * DAY or math.inf

    @property
    def max_job_age_seconds(self) -> float:
        """How long a finished job is kept."""
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
    def seconds_a_query(self) -> float:
        """The seconds from one query to the next at an even pace; 0 without a pace."""
        queries = self.instagram_max_queries
        return self.instagram_window_seconds / queries if queries else 0.0

    @property
    def proxies(self) -> tuple[Network, ...]:
        """The networks whose ``X-Forwarded-For`` is believed."""
        return self.trusted_proxies + (PRIVATE_NETWORKS if self.trust_proxy else ())


def _key_in(path: Path) -> str:
    try:
        return read_file(path, _MAX_KEY_BYTES).decode().strip()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text in UTF-8") from None


def load_settings(**given: Any) -> Settings:
    """Read the settings from the environment; those *given* take precedence.

    Raises:
        SettingsError: some are wrong.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(explain(error)) from None


def explain(error: ValidationError) -> str:
    """Everything that is wrong with some settings, a line each, without the values."""
    return "\n".join(_explain(fault) for fault in error.errors())


def _explain(fault: Any) -> str:
    # The value itself stays out: it may be a secret.
    message = fault["msg"].removeprefix("Value error, ")
    return f"{fault['loc'][0].upper()}: {message}" if fault["loc"] else message
