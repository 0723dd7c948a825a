"""A plugin that copies stored posts to a bucket on S3 or a compatible server.

To use it, install ``requirements/s3.txt``, and set ``PLUGINS=s3`` and ``S3_BUCKET``. The plugin
copies the files and the manifest of each post to ``PREFIX/SHORTCODE/``. The copies remain when the
service removes the post.
"""

import logging
import mimetypes
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import structlog
from pydantic import AfterValidator, Field, HttpUrl, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from scrapper.errors import SettingsError
from scrapper.library.additions import Additions
from scrapper.library.post import Post
from scrapper.library.stored import MANIFEST
from scrapper.plugins.hooks import hookimpl
from scrapper.settings import Settings, explain

__all__ = ["configure", "post_stored"]

log = structlog.get_logger(__name__)

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
# The characters that Amazon calls safe in object keys.
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()/-]{0,500}")
_PART_BYTES = 16 * 1024 * 1024
_VERSION = "version"
# If the credentials do not allow listing the bucket, S3 reports a missing object as 403, not 404.
_NOT_FOUND = ("403", "404", "NoSuchKey", "NotFound")
_SECONDS = 60


def _is_bucket(name: str) -> str:
    if not _BUCKET.fullmatch(name):
        raise ValueError("set it to the name of a bucket")
    return name


def _is_endpoint(url: HttpUrl) -> HttpUrl:
    # The endpoint becomes part of URLs that every client can see.
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("write only the server's address: credentials have their own variables")
    return url


def _is_prefix(prefix: str) -> str:
    if not _PREFIX.fullmatch(prefix):
        raise ValueError("use letters, digits, slashes and any of !_.*'()-")
    return prefix.strip("/")


class S3Settings(BaseSettings):
    """The plugin's settings. Credentials come from the AWS SDKs' own variables and files."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    s3_bucket: Annotated[str, AfterValidator(_is_bucket), Field(validate_default=True)] = ""
    s3_endpoint: Annotated[HttpUrl, AfterValidator(_is_endpoint)] | None = None
    s3_prefix: Annotated[str, AfterValidator(_is_prefix)] = ""


def _settings() -> S3Settings:
    try:
        return S3Settings()
    except ValidationError as error:
        raise SettingsError(explain(error)) from None


@hookimpl
def configure(settings: Settings) -> None:  # noqa: ARG001
    """Check that the bucket is set and boto3 is installed, without sending a request.

    Raises:
        SettingsError: the bucket is not set, or boto3 is not installed.
    """
    _client(_settings())
    # At the level DEBUG, these libraries log credentials.
    for name in ("boto3", "botocore", "s3transfer"):
        logging.getLogger(name).setLevel(logging.INFO)


@hookimpl
def post_stored(post: Post, folder: Path) -> Additions:
    """Copy the files of *post*, unless the bucket already has this version of them.

    Raises:
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError: a file could
            not be copied.
    """
    settings = _settings()
    client, bucket = _client(settings), settings.s3_bucket
    # After a refresh, the post has different files with the same names.
    version = str((folder / MANIFEST).stat().st_mtime_ns)
    addresses = {}
    for name in dict.fromkeys([*(file.filename for file in post.files), MANIFEST]):
        key = "/".join(filter(None, (settings.s3_prefix, post.shortcode, name)))
        # The manifest comes last, so a copy with a manifest is complete.
        _copy(client, bucket, key, folder / name, version)
        if name != MANIFEST:
            addresses[name] = _address(client, bucket, key)
    return Additions(object_urls=addresses)


def _client(settings: S3Settings) -> Any:
    try:
        import boto3  # noqa: PLC0415 - only where the plugin is used
        from botocore.config import Config  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError("install instagram-scrapper[s3], or requirements/s3.txt") from error
    endpoint = str(settings.s3_endpoint).rstrip("/") if settings.s3_endpoint else None
    config = Config(
        connect_timeout=_SECONDS,
        read_timeout=_SECONDS,
        retries={"mode": "standard", "max_attempts": 3},
        # Not every compatible server supports the newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    session = boto3.session.Session()
    region = session.region_name or "us-east-1"
    return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)


def _copy(client: Any, bucket: str, key: str, path: Path, version: str) -> None:
    """Upload the file at *path* to *key*, unless the bucket already has this *version* of it."""
    from boto3.s3.transfer import TransferConfig  # noqa: PLC0415

    size = path.stat().st_size
    try:
        found = client.head_object(Bucket=bucket, Key=key)
        if found["ContentLength"] == size and found.get("Metadata", {}).get(_VERSION) == version:
            return
    except client.exceptions.ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _NOT_FOUND:
            raise
    if size >= _PART_BYTES:
        _abort_unfinished(client, bucket, key)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    more = {"Metadata": {_VERSION: version}, "ContentType": kind}
    config = TransferConfig(
        multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, use_threads=False
    )
    client.upload_file(str(path), bucket, key, ExtraArgs=more, Config=config)
    log.info("file copied", bucket=bucket, key=key, bytes=size)


def _abort_unfinished(client: Any, bucket: str, key: str) -> None:
    """Abort uploads of *key* that a crash left unfinished, because their hidden parts cost money.

    If the credentials do not allow listing or aborting uploads, the parts remain.
    """
    try:
        listed = client.list_multipart_uploads(Bucket=bucket, Prefix=key)
        for upload in listed.get("Uploads", ()):
            if upload["Key"] == key:
                client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload["UploadId"])
    except client.exceptions.ClientError as error:
        log.warning("unfinished uploads not aborted", key=key, cause=str(error))


def _address(client: Any, bucket: str, key: str) -> str:
    """Return the unsigned URL of an object. The bucket's policy decides who can read the object."""
    endpoint = client.meta.endpoint_url
    scheme, _, host = endpoint.partition("://")
    if host.endswith("amazonaws.com"):
        return f"{scheme}://{bucket}.{host}/{quote(key)}"
    return f"{endpoint}/{bucket}/{quote(key)}"
