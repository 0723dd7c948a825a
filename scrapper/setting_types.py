"""The types of settings, which parse and validate the values of environment variables."""

import base64
import os
import pwd
import re
from importlib import import_module
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from pkgutil import resolve_name
from string import Formatter
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from scrapper.ffmpeg import missing_programs
from scrapper.local_files.opening import open_file

__all__ = [
    "DAY",
    "OWN_MIDDLEWARES",
    "OWN_PLUGINS_PACKAGE",
    "YEAR",
    "AuthProxies",
    "BasePathText",
    "DownloadName",
    "Factories",
    "Folder",
    "HeaderName",
    "HostNames",
    "HostsOrNetworks",
    "Key",
    "Middlewares",
    "Modules",
    "Peers",
    "Port",
    "ReadableFile",
    "RedisURL",
    "Seconds",
    "SocketMode",
    "SocketPath",
    "VideoQuality",
    "WebhookSecret",
    "is_network",
    "proxy_error",
]

OWN_MIDDLEWARES = (
    "request_context",
    "metrics",
    "errors",
    "browser_guard",
    "body_size",
    "rate_limit",
    "api_key",
)
"""The middlewares of this service by name, in their usual order, outermost first."""

_BASE_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]{1,100}){1,10}")
# The Standard Webhooks specification, version 1.0, "Symmetric".
_WEBHOOK_SECRET_BYTES = (24, 64)
_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_Item = TypeVar("_Item")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
# Clients or other proxies send these headers for other purposes.
_OTHER_HEADERS = (
    *("authorization", "cookie", "host", "origin", "x-api-key"),
    *("forwarded", "x-forwarded-for", "x-forwarded-prefix", "x-forwarded-proto", "x-request-id"),
)
# The path in sockaddr_un has 108 bytes on Linux and 104 elsewhere, the last of which is 0.
_MAX_SOCKET_PATH = 103
_MODE = re.compile("0?[0-7]{3}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,126}\.?")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _parse_peers(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    return [part if part == "unix" else ip_network(part) for part in _split(text)]


def _split_if_text(text: Any) -> Any:
    return _split(text) if isinstance(text, str) else text


def _validate_host_name(name: str) -> str:
    if not _HOST_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a host name: omit the scheme, the port and the path")
    return name.lower()


def is_network(text: str) -> bool:
    """Return whether *text* is an IP address, or a network in CIDR notation."""
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _validate_host_or_network(text: str) -> str:
    return text if is_network(text) else _validate_host_name(text)


def _validate_proxy(text: str) -> str:
    """Normalize *text* to an IP address, ``unix``, or the path of a Unix socket."""
    if text == "unix" or text.startswith(("/", "unix:/")):
        return text.removeprefix("unix:")
    host, slash, prefix = text.partition("/")
    try:
        address = ip_address(host)
    except ValueError:
        raise ValueError(f"{text!r} is neither an IP address nor a Unix socket") from None
    if (slash and prefix != str(address.max_prefixlen)) or address.is_unspecified:
        raise ValueError(f"{text!r} is not a single IP address: list the address of each proxy")
    return str(getattr(address, "ipv4_mapped", None) or address)


def _validate_header_name(name: str) -> str:
    if (name and not _HEADER_NAME.fullmatch(name)) or name.lower() in _OTHER_HEADERS:
        raise ValueError("must be the name of a header with no other use, such as Remote-User")
    return name


def _validate_socket_path(path: Path) -> Path:
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise ValueError(f"the path is too long: at most {_MAX_SOCKET_PATH} bytes are allowed")
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist")
    return path


def _parse_mode(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if not _MODE.fullmatch(text):
        raise ValueError("must be permissions in octal, such as 660")
    return int(text, 8)


def _validate_webhook_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().removeprefix("whsec_")
    try:
        size = len(base64.b64decode(text, validate=True))
    except ValueError:
        size = 0
    if text and not _WEBHOOK_SECRET_BYTES[0] <= size <= _WEBHOOK_SECRET_BYTES[1]:
        raise ValueError("must be whsec_ followed by 24 to 64 random bytes in base64")
    return secret


def _validate_base_path(path: str) -> str:
    path = path.rstrip("/")
    if path and not _BASE_PATH.fullmatch(path):
        raise ValueError("must look like /saved: a leading slash, no trailing slash, no query")
    return path


def _validate_download_name(template: str) -> str:
    fields = ", ".join(f"{{{name}}}" for name in _DOWNLOAD_FIELDS)
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{error}; write {{{{ and }}}} for literal braces") from None
    for _, name, format_spec, conversion in parsed:
        if name is not None and (name not in _DOWNLOAD_FIELDS or format_spec or conversion):
            raise ValueError(f"unknown field {{{name}}}; the fields are {fields}")
    return template


def _validate_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if text != text.strip() or not text.isprintable():
        raise ValueError("must not have spaces around it or contain control characters")
    return key


def _make_absolute(path: Path) -> Path:
    if str(path).startswith("~"):
        raise ValueError("~ is not expanded: write the full path")
    try:
        str(path).encode()
        return path.absolute()
    except UnicodeEncodeError:
        raise ValueError("the path must be UTF-8, because responses contain it") from None
    except FileNotFoundError:
        raise ValueError("the current folder was removed: write the full path") from None


def _validate_writable(path: Path) -> Path:
    # Path.exists() raises if a parent folder cannot be searched.
    existing = next(folder for folder in (path, *path.parents) if os.path.exists(folder))  # noqa: PTH110
    for folder in (existing, path, path / ".incoming", path / ".state"):
        if os.path.lexists(folder) and not (
            folder.is_dir() and os.access(folder, os.R_OK | os.W_OK | os.X_OK)
        ):
            raise ValueError(_why_not_writable(folder, path))
    return path


def _why_not_writable(folder: Path, wanted: Path) -> str:
    """Return why *folder* is not writable, and what the operator can do about it.

    The service needs the folder *wanted*. *folder* is *wanted* itself, a folder in *wanted*, or the
    nearest existing parent of *wanted*.
    """
    if not folder.is_dir():
        return f"{folder} is not a folder"
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{folder} is on a read-only file system: choose another folder"
    owner, ours = folder.stat().st_uid, os.getuid()
    above = folder in wanted.parents
    missing = f"{wanted} cannot be created or reached: " if above else ""
    if owner == ours:
        return f"{missing}{folder} is not writable: give its owner full permissions (chmod u+rwx)"
    # The parent may be a system folder. Its owner must not be changed.
    give = (
        f"create it first (mkdir -p {wanted} && chown {ours} {wanted})"
        if above
        else f"change its owner (chown -R {ours} {wanted})"
    )
    return (
        f"{missing}{folder} belongs to user {_user_with_name(owner)}, but the service runs as user "
        f"{_user_with_name(ours)}: {give}, or run the service as user {owner} "
        f'(user: "{owner}" in compose.yaml, --user {owner} with docker run)'
    )


def proxy_error(url: str) -> str | None:
    """Return an error message that does not quote *url*, or None if *url* is a proxy's URL."""
    try:
        parts = urlsplit(url)
        is_proxy = parts.scheme in _PROXY_SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        is_proxy = False
    if is_proxy and not any(map(str.isspace, url)):
        return None
    return (
        "must be the URL of a proxy, such as http://proxy.example:3128 or "
        "socks5h://127.0.0.1:9050; in the password, write /, # and @ as %2F, %23 and %40"
    )


def _user_with_name(uid: int) -> str:
    try:
        return f"{uid} ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return str(uid)


def _validate_factory(name: str) -> str:
    module, colon, factory = name.partition(":")
    if not (module and colon and factory):
        raise ValueError(f"{name!r} is not of the form module:factory")
    try:
        loaded = resolve_name(name)
    # Importing a user's module may raise anything, or end the process.
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name!r} cannot be loaded: {error}") from error
    if not callable(loaded):
        raise ValueError(f"{name!r} is not callable")  # noqa: TRY004
    return name


def _validate_middleware(name: str) -> str:
    if ":" not in name and name not in OWN_MIDDLEWARES:
        raise ValueError(
            f"unknown middleware {name!r}; use {', '.join(OWN_MIDDLEWARES)}, or module:factory "
            "for your own"
        )
    return name if name in OWN_MIDDLEWARES else _validate_factory(name)


def _validate_module(name: str) -> str:
    if name in _OWN_PLUGINS:
        name = OWN_PLUGINS_PACKAGE + name
    try:
        import_module(name)
    # Importing a user's module may raise anything, or end the process.
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name!r} cannot be imported: {error}") from error
    return name


def _validate_readable(path: Path) -> Path:
    try:
        open_file(path).close()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    return path


def _validate_video_quality(quality: str) -> str:
    if quality == "best" and (missing := missing_programs()):
        raise ValueError(f"best needs {' and '.join(missing)} on the PATH: install ffmpeg")
    return quality


def _validate_redis_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value():
        return url
    try:
        from redis.connection import parse_url  # noqa: PLC0415 - needed only for this setting
    except ImportError as error:
        raise ValueError("install instagram-scrapper[redis], or requirements/redis.txt") from error
    try:
        parse_url(url.get_secret_value())
    except ValueError:
        # The message of the error may quote part of the password.
        raise ValueError(
            "must be a Redis URL; in the password, write /, # and @ as %2F, %23 and %40"
        ) from None
    return url


OWN_PLUGINS_PACKAGE = "scrapper.plugins."
_OWN_PLUGINS = ("audio", "notify", "s3")
_DOWNLOAD_FIELDS = ("shortcode", "owner", "date", "time", "number")
_MAX_DOWNLOAD_NAME = 200
DAY = 24 * 60 * 60
YEAR = 366 * DAY

ReadableFile = Annotated[Path, AfterValidator(_validate_readable)]
Folder = Annotated[Path, AfterValidator(_make_absolute), AfterValidator(_validate_writable)]
Key = Annotated[SecretStr, AfterValidator(_validate_key)]
RedisURL = Annotated[SecretStr, AfterValidator(_validate_redis_url)]
VideoQuality = Annotated[Literal["compatible", "best"], AfterValidator(_validate_video_quality)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=YEAR)]

HeaderName = Annotated[str, AfterValidator(_validate_header_name)]
SocketMode = Annotated[int, BeforeValidator(_parse_mode)]
SocketPath = Annotated[Path, AfterValidator(Path.absolute), AfterValidator(_validate_socket_path)]
BasePathText = Annotated[str, AfterValidator(_validate_base_path)]
DownloadName = Annotated[
    str, Field(min_length=1, max_length=_MAX_DOWNLOAD_NAME), AfterValidator(_validate_download_name)
]
_Listed = Annotated[tuple[_Item, ...], NoDecode, BeforeValidator(_split_if_text)]
AuthProxies = _Listed[Annotated[str, AfterValidator(_validate_proxy)]]
HostNames = _Listed[Annotated[str, AfterValidator(_validate_host_name)]]
HostsOrNetworks = _Listed[Annotated[str, AfterValidator(_validate_host_or_network)]]
Peers = Annotated[
    tuple[IPv4Network | IPv6Network | Literal["unix"], ...], NoDecode, BeforeValidator(_parse_peers)
]
WebhookSecret = Annotated[
    SecretStr, AfterValidator(_validate_webhook_secret), Field(validate_default=True)
]
Middlewares = _Listed[Annotated[str, AfterValidator(_validate_middleware)]]
Factories = _Listed[Annotated[str, AfterValidator(_validate_factory)]]
Modules = _Listed[Annotated[str, AfterValidator(_validate_module)]]
