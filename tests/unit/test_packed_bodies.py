"""Bodies that clients packed: as they were, or refused, whatever the bytes are."""

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
    # Without the time, so that the names of the tests stay the same.
    return gzip.compress(content, mtime=0)


def raw_deflate(content: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packing.compress(content) + packing.flush()


def unpacked(body: bytes, encoding: str | None) -> bytes:
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
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
    ],
)
def test_a_packed_body_is_read_as_it_was(encoding: str | None, body: bytes) -> None:
    assert unpacked(body, encoding) == TEXT


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", TEXT),
        ("gzip", b""),
        ("gzip", gzipped(TEXT)[:-4]),
        ("gzip", zlib.compress(TEXT)),
        ("deflate", TEXT),
        ("deflate", b""),
        ("deflate", zlib.compress(TEXT)[:-1]),
        ("br", TEXT),
        ("gzip, gzip", gzipped(gzipped(TEXT))),
    ],
)
def test_a_body_packed_otherwise_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(zlib.error):
        unpacked(body, encoding)


@pytest.mark.parametrize("pack", [gzipped, zlib.compress])
def test_a_bomb_is_refused_without_unpacking_it(pack: Any) -> None:
    encoding = "gzip" if pack is gzipped else "deflate"
    assert unpacked(pack(bytes(100)), encoding) == bytes(100)
    with pytest.raises(web.HTTPRequestEntityTooLarge):
        unpacked(pack(bytes(10_000_000)), encoding)


@given(body=st.binary(max_size=200), encoding=st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_a_body_or_refused(body: bytes, encoding: str) -> None:
    with suppress(zlib.error, web.HTTPRequestEntityTooLarge):
        assert len(unpacked(body, encoding)) <= 100
