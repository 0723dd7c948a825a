"""Generates load: wrk and ab repeat one request, aiohttp sends different ones."""

import asyncio
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import aiohttp

__all__ = ["Wrk", "post_at_once", "post_each", "wrk"]

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class Wrk(NamedTuple):
    """The results of wrk: requests per second, number of requests, and latencies in seconds."""

    rate: float
    requests: int
    p99: float
    slowest: float


def wrk(
    url: str, *, connections: int, seconds: int, body: str = "", key: str = "", numbers: int = 0
) -> Wrk:
    """Repeat one request for *seconds*: a POST if there is a *body*, or else a GET.

    If *numbers* is set, each request replaces ``%d`` in *body* with a random number below it.

    Raises:
        RuntimeError: some responses were errors.
    """
    script = f'wrk.headers["X-API-Key"] = "{key}"\n'
    if body:
        script += f"wrk.method = 'POST'\nwrk.body = '{body}'\n"
    if numbers:
        script += "function request() return wrk.format(nil, nil, nil, "
        script += f"string.format(wrk.body, math.random(0, {numbers - 1}))) end\n"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "request.lua").write_text(script)
        command = ["wrk", "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{seconds}s", "--latency", "--timeout", "60s"]
        command += ["--script", f"{folder}/request.lua", url]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)
    latency = re.search(r"Latency\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)", text)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    count = re.search(r"(\d+) requests in", text)
    assert latency
    assert p99
    assert rate
    assert count
    return Wrk(
        float(rate[1]),
        int(count[1]),
        float(p99[1]) * _UNITS[p99[2]],
        float(latency[1]) * _UNITS[latency[2]],
    )


def post_each(*bases: str, shortcodes: Iterable[str], clients: int, key: str = "") -> float:
    """Request each post once, with *clients* clients spread over *bases*; return the seconds taken.

    Raises:
        RuntimeError: a response was not 200.
    """
    waiting = iter(list(shortcodes))

    async def client(session: aiohttp.ClientSession, base: str) -> None:
        for shortcode in waiting:
            await _post(session, base, shortcode, key)

    async def run() -> float:
        async with _session() as session:
            started = time.perf_counter()
            each = zip(range(clients), cycle(bases), strict=False)
            await asyncio.gather(*(client(session, base) for _, base in each))
            return time.perf_counter() - started

    return asyncio.run(run())


def post_at_once(
    base: str, shortcode: str, *, clients: int, key: str = "", requests: int = 0
) -> float:
    """Make *clients* clients request one post at once, with ab; return the seconds of the slowest.

    Each client sends one request. If *requests* is set, the clients send this many requests in
    total, over persistent connections.

    Raises:
        RuntimeError: some responses were errors.
    """
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body.json"
        body.write_text(f'{{"url": "https://www.instagram.com/reel/{shortcode}/"}}')
        command = ["ab", "-q", "-r", "-s", "60", "-n", str(requests or clients)]
        command += ["-c", str(clients), *(["-k"] if requests else [])]
        command += ["-p", str(body), "-T", "application/json", "-H", f"X-API-Key: {key}"]
        command += [f"{base}/scrape"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    slowest = re.search(r"^Total:.*\s(\d+)$", text, re.MULTILINE)
    # ab counts a response of a different length as failed, such as one with "cached": false.
    errors = re.search(r"Non-2xx responses:\s+(\d+)", text)
    if errors or not slowest:
        raise RuntimeError(text)
    return int(slowest[1]) / 1000


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=600)
    )


async def _post(session: aiohttp.ClientSession, base: str, shortcode: str, key: str) -> None:
    body = {"url": f"https://www.instagram.com/reel/{shortcode}/"}
    async with session.post(f"{base}/scrape", json=body, headers={"X-API-Key": key}) as response:
        content = await response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status} for {shortcode}: {content!r}")
