"""An S3 server for the tests, provided by moto, on a free loopback port."""

import subprocess
import sys
from typing import Any, Self

import boto3
from botocore.config import Config

from tests.process import free_port, wait_for_answer

__all__ = ["CREDENTIALS", "S3Server"]

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "s3cr3t-of-the-bucket"}


class S3Server:
    """Runs ``moto_server`` with one bucket during the block. Its objects are lost when it stops."""

    bucket = "posts"

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for_answer(self.url)
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(proxies={}),
        )
        self.client.create_bucket(Bucket=self.bucket)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait()

    @property
    def environment(self) -> dict[str, str]:
        """The settings with which the plugin s3 uses the bucket."""
        return {
            **CREDENTIALS,
            "PLUGINS": "scrapper.plugins.s3",
            "S3_ENDPOINT": self.url,
            "S3_BUCKET": self.bucket,
            "NO_PROXY": "127.0.0.1",
        }

    def objects(self) -> dict[str, bytes]:
        """Return all objects in the bucket, by key."""
        listed = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", ())
        return {found["Key"]: self._read(found["Key"]) for found in listed}

    def _read(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content
