"""Compressed request bodies are decompressed, or rejected if they are invalid."""

import gzip
import zlib
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from scrapper.handlers.request_bodies import _decompressed

TEXT = b'{"url": "x"}'


def gzipped(content: bytes) -> bytes:
    # A fixed time, so that the test IDs stay the same.
    return gzip.compress(content, mtime=0)


def raw_deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


def decompressed(body: bytes, encoding: str | None) -> bytes:
    headers = {} if encoding is None else {"Content-Encoding": encoding}
    request: Any = make_mocked_request("POST", "/", headers, client_max_size=100)
    return _decompressed(request, body)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (None, TEXT),
        ("identity", TEXT),
        ("gzip", gzipped(TEXT)),
        ("GZIP", gzipped(TEXT)),
        ("x-gzip", gzipped(TEXT)),
        ("gzip", gzipped(TEXT[:5]) + gzipped(TEXT[5:])),
        pytest.param("gzip", gzipped(TEXT) + 99 * gzipped(b""), id="100 members"),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
    ],
)
def test_a_compressed_body_is_decompressed(encoding: str | None, body: bytes) -> None:
    assert decompressed(body, encoding) == TEXT


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", TEXT),
        ("gzip", b""),
        ("gzip", gzipped(TEXT)[:-4]),
        ("gzip", zlib.compress(TEXT)),
        ("gzip", gzipped(TEXT) + b"junk"),
        ("gzip", gzipped(TEXT) + gzipped(TEXT)[:-4]),
        pytest.param("gzip", gzipped(TEXT) + 100 * gzipped(b""), id="101 members"),
        ("deflate", zlib.compress(TEXT) + b"junk"),
        ("deflate", zlib.compress(TEXT) + zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT) + b"junk"),
        ("deflate", TEXT),
        ("deflate", b""),
        ("deflate", zlib.compress(TEXT)[:-1]),
        ("br", TEXT),
        ("gzip, gzip", gzipped(gzipped(TEXT))),
    ],
)
def test_a_body_that_does_not_match_its_encoding_is_rejected(encoding: str, body: bytes) -> None:
    with pytest.raises(zlib.error):
        decompressed(body, encoding)


@pytest.mark.parametrize("compress", [gzipped, zlib.compress])
def test_a_decompression_bomb_is_rejected(compress: Any) -> None:
    encoding = "gzip" if compress is gzipped else "deflate"
    assert decompressed(compress(bytes(100)), encoding) == bytes(100)
    with pytest.raises(web.HTTPRequestEntityTooLarge):
        decompressed(compress(bytes(10_000_000)), encoding)


def test_members_share_the_size_limit() -> None:
    assert decompressed(gzipped(bytes(60)) + gzipped(bytes(40)), "gzip") == bytes(100)
    with pytest.raises(web.HTTPRequestEntityTooLarge):
        decompressed(gzipped(bytes(60)) + gzipped(bytes(41)), "gzip")


@given(body=st.binary(max_size=200), encoding=st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_decompressed_or_rejected(body: bytes, encoding: str) -> None:
    with suppress(zlib.error, web.HTTPRequestEntityTooLarge):
        assert len(decompressed(body, encoding)) <= 100
