"""Runs the service for ten minutes under mixed load with faults (``make soak``).

Each minute of the first half ends with a SIGKILL and a restart. From the second minute on, each
minute has one more fault, in turn: the job file is damaged, the clock jumps a year ahead, the media
folder's disk is unplugged, or slow clients attack (with slowhttptest, a Debian package). In the
second half, a single process runs to the end. From the end of its first minute, its threads, open
files and memory must not grow. During all ten minutes, one webhook receiver works, one never
answers, and one is down.

Every minute, each file in the state folder is removed once, and one of them is replaced with a
FIFO. The clock is set ten years ahead, then three days back, and then to the right time again.

Every stored post must be complete. No finished job may be lost unless the job file was damaged.
Each webhook must be delivered, given up or still waiting. No response may be 500. The soak test
prints the figures, and exits with code 1 if one of them is wrong. ``python -m tests.soak MINUTES``
runs for another number of minutes. If that is less than ten, some faults are left out.
"""

import json
import os
import queue
import random
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil
import requests

from scrapper.library.clock import read_clocks
from tests.instagram import SCENARIOS, StandIn
from tests.process import Service
from tests.tampering import Clock, Notes, tamper

_MINUTES = 10
_YEAR = 365 * 24 * 60 * 60
_JOBS = ".state/jobs.sqlite3"
_NO_SWEEP = 'library_sweeps_total{outcome="ok"} 0.0'
_CLIENTS = 16
_WORKERS = 8
_TIMEOUT = 8
_SETTINGS = {
    "INSTAGRAM_MAX_QUERIES": "0",
    "INSTAGRAM_COOLDOWN_SECONDS": "0",
    "SCRAPE_CONCURRENCY": str(_WORKERS),
    "JOB_PATIENCE_SECONDS": "5",
    "SCRAPE_TIMEOUT_SECONDS": str(_TIMEOUT),
    "MEDIA_CLEANUP_INTERVAL_SECONDS": "7",
    "WEBHOOK_HOSTS": "127.0.0.1,127.0.0.2,127.0.0.3",
    "WEBHOOK_SECRET": f"whsec_{'c2VjcmV0' * 6}",
    # Half a minute, so that posts are swept during the soak.
    "MAX_MEDIA_AGE_DAYS": "0.00035",
}
# In the first half, every job is kept, to check that none is lost. In the second half, new jobs
# replace old ones.
_ALL_JOBS, _FEW_JOBS = {"MAX_JOBS": "1000000"}, {"MAX_JOBS": "100"}
_NO_SWEEPS = {"MAX_MEDIA_AGE_DAYS": "0"}
_CLOCK_MOVES = (10 * _YEAR, -3 * 24 * 60 * 60)
_SECONDS_BEFORE, _SECONDS_FOR_A_SWEEP, _SECONDS_AT_A_WRONG_TIME = 8, 3, 8
# Errors that are logged because a state file was damaged or removed, because a receiver is down,
# or, with few jobs, because a job was replaced before it was reported to the plugin.
_EXPECTED_ERRORS = (
    "file set aside",
    ": file recreated",
    "journal set aside",
    "webhook given up",
    "plugin missed a job: too many waiting",
)
_SWEPT = re.compile(r'^library_sweeps_total\{outcome="ok"\} ([\d.]+)', re.MULTILINE)
_POSTS = ("reel", "photo", "carousel", "slow", "big")
# All faults except those that send Retry-After, because the cool-down would stop all scraping.
_FAULTS = [
    name
    for name, scenario in SCENARIOS.items()
    if scenario.api != "limited" and not scenario.api.startswith("retry")
]
_SHARE_WITHOUT_FAULT = 0.8
_EXPECTED_STATUSES = {200, 202, 204, 206, 304, 400, 403, 404, 408, 422, 429, 502, 503}
# Allowances for the varying numbers of client connections, Instagram connections and downloads.
_EXTRA_FILES, _EXTRA_MB = _CLIENTS + 2 * _WORKERS, 10
# The thread pools for scrapes and files and that of asyncio, the threads of the log and of the
# adjustable clock, and the main thread.
_MAX_THREADS = 3 * _WORKERS + min(32, (os.cpu_count() or 1) + 4) + 3
_FETCHED = re.compile(
    r'^scrape_fetch_duration_seconds_count\{outcome="ok"\} ([\d.]+)', re.MULTILINE
)


class Figures(NamedTuple):
    """The resources that a process uses."""

    threads: int
    files: int
    megabytes: float

    @classmethod
    def of(cls, pid: int) -> "Figures":
        process = psutil.Process(pid)
        return cls(process.num_threads(), process.num_fds(), process.memory_info().rss / 1_000_000)

    @classmethod
    def least_of(cls, pid: int) -> "Figures":
        """Return the minimum of each figure in a minute, which excludes temporary use."""
        samples = []
        for _ in range(120):
            time.sleep(0.5)
            samples.append(cls.of(pid))
        return cls(*map(min, zip(*samples, strict=True)))


class Receivers:
    """Three webhook receivers: one works and records its jobs, one never answers, one is down."""

    def __init__(self) -> None:
        self.jobs = jobs = set[str]()

        class Working(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                jobs.add(json.loads(body)["id"])
                self.send_response(HTTPStatus.NO_CONTENT)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        # The service distinguishes receivers by host, so each has its own address.
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Working)
        self._stuck, self._dead = socket.create_server(("127.0.0.2", 0)), socket.socket()
        self._dead.bind(("127.0.0.3", 0))
        sockets = (self._server.socket, self._stuck, self._dead)
        self.working, *self.others = ("http://{}:{}/".format(*it.getsockname()) for it in sockets)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._stuck.close()
        self._dead.close()


class Load:
    """Clients that send all kinds of requests until :meth:`stop`, with webhooks to *receivers*."""

    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers
        self.webhooks: dict[str, str] = {}
        self.url = ""
        self.responses: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.finished_jobs: set[str] = set()
        self.accepted_jobs: set[str] = set()
        self._stopped = threading.Event()
        self._clients = [threading.Thread(target=self._run, args=[n]) for n in range(_CLIENTS)]

    def start(self) -> None:
        for client in self._clients:
            client.start()

    def stop(self) -> None:
        self._stopped.set()
        for client in self._clients:
            client.join()

    def _run(self, number: int) -> None:
        rng = random.Random(number)  # noqa: S311
        while not self._stopped.is_set():
            with requests.Session() as session:
                session.trust_env = False
                try:
                    for _ in range(50):
                        if self._stopped.is_set():
                            return
                        self._act(rng, session)
                except requests.RequestException:
                    # The service was killed, and will be restarted.
                    self.responses["cut"] += 1
                    time.sleep(0.2)

    def _act(self, rng: random.Random, session: requests.Session) -> None:
        scenario = rng.choice(_POSTS if rng.random() < _SHARE_WITHOUT_FAULT else _FAULTS)
        shortcode = f"{scenario}-{rng.randrange(200)}"
        url = f"https://www.instagram.com/p/{shortcode}/"
        match rng.randrange(10):
            case 0 | 1 | 2 | 3:
                body = {"url": url, "refresh": rng.random() < 0.1}
                self._send(session, "POST", "/scrape", json=body)
            case 4:
                self._job(rng, session)
            case 5:
                self._send(session, "GET", f"/download/{shortcode}?archive=zip")
            case 6:
                self._send(session, "GET", f"/media/{shortcode}/{shortcode}.mp4")
            case 7:
                self._send(session, "DELETE", f"/posts/{shortcode}")
            case 8:
                self._send(session, "POST", "/scrape", data=rng.randbytes(50))
            case _:
                self._send(session, "GET", rng.choice(["/posts", "/metrics", "/ready", "/none"]))

    def _job(self, rng: random.Random, session: requests.Session) -> None:
        urls = [f"https://www.instagram.com/p/reel-{rng.randrange(200)}/" for _ in range(3)]
        receiver = rng.choice([self._receivers.working, *self._receivers.others])
        body = {"urls": [*urls, "nonsense"], "webhook": receiver}
        response = self._send(session, "POST", "/jobs", json=body)
        path = response.headers.get("Location", "")
        if path:
            self.accepted_jobs.add(path)
        for _ in range(20 if path else 0):
            if self._send(session, "GET", path).json().get("state") == "done":
                self.webhooks[path.rpartition("/")[2]] = receiver
                self.finished_jobs.add(path)
                return
            time.sleep(0.2)

    def _send(
        self, session: requests.Session, method: str, path: str, **body: object
    ) -> requests.Response:
        response = session.request(method, self.url + path, timeout=60, **body)  # type: ignore[arg-type]
        self.responses[str(response.status_code)] += 1
        if response.status_code not in _EXPECTED_STATUSES:
            self.unexpected.append(f"{method} {path}: {response.status_code} {response.text[:200]}")
        return response


def main() -> int:  # noqa: PLR0915 - one story, from its first minute to its last
    minutes = int(sys.argv[1]) if sys.argv[1:] else _MINUTES
    if shutil.which("slowhttptest") is None:
        print("needs slowhttptest: on Debian, apt install slowhttptest", file=sys.stderr)
        return 2
    incomplete, errors = 0, []
    checked: dict[str, bool] = {}
    figures: list[Figures] = []
    with (
        tempfile.TemporaryDirectory() as name,
        StandIn() as instagram,
        Receivers() as receivers,
    ):
        load = Load(receivers)
        # A separate folder, because one of the faults moves it away.
        root, environment = Path(name) / "media", {**instagram.environment, **_SETTINGS}
        clock, notes = Clock(Path(name)), Notes(Path(name))
        environment |= {**clock.environment, **notes.environment}
        tamperer = Tamperer(root, clock)
        tamperer.start()
        for minute in range(1, minutes // 2 + 1):
            found, logged = _minute_with_fault(
                minute, root, {**environment, **_ALL_JOBS}, load, tamperer
            )
            checked |= found
            errors += logged
            incomplete += _incomplete_posts(root, instagram)
        finished, accepted = set(load.finished_jobs), set(load.accepted_jobs)
        with Service(root, {**environment, **_ALL_JOBS, **_NO_SWEEPS}) as service:
            lost = [path for path in finished if _state(service, path) != "done"]
            unknown, ended = _account_for_jobs(service, accepted)
            unreported = notes.unaccounted(service, root, ended)
            stray = _stray_webhooks(load, receivers, service, root)
            errors += _errors(service)
        # Thousands of unfinished jobs would leave no room for new ones.
        for file in (root / _JOBS).parent.glob(f"{Path(_JOBS).name}*"):
            file.unlink()
        responses_before = load.responses.total()
        webhooks = len(load.webhooks)
        load.webhooks.clear()
        with Service(root, {**environment, **_FEW_JOBS}) as service:
            load.url = service.url
            if minutes == 1:
                load.start()
            for minute in range(minutes // 2 + 1, minutes + 1):
                tamperer.begin_minute(service)
                figures.append(Figures.least_of(service.pid))
                print(f"minute {minute}, minimum: {_format(figures[-1])}", flush=True)
            fetched = _FETCHED.search(service.get("/metrics").text)
            load.stop()
            done = len(load.finished_jobs - finished)
            tamperer.stop()
            webhooks += len(load.webhooks)
            stray += _stray_webhooks(load, receivers, service, root)
            service.terminate()
            code = service.wait()
            errors += _errors(service)
        with Service(root, {**environment, **_NO_SWEEPS}) as service:
            unreported += notes.unaccounted(service, root, ())
            errors += _errors(service)
        incomplete += _incomplete_posts(root, instagram)
    print(f"responses: {dict(load.responses.most_common())}")
    print(f"last process: {load.responses.total() - responses_before} responses, {done} jobs")
    print(f"plugin calls: {notes.counts()}, files removed: {tamperer.removed}")
    first, last = figures[:2][-1], figures[-1]
    checks = {
        f"unexpected responses: {load.unexpected[:5]}": not load.unexpected,
        f"posts fetched by the last process: {fetched[1] if fetched else 0}": (
            fetched is not None and float(fetched[1]) > len(figures)
        ),
        f"incomplete posts: {incomplete}": incomplete == 0,
        f"finished jobs: {len(finished)}, lost: {len(lost)}": not lost,
        f"accepted jobs: {len(accepted)}, ended: {len(ended)}, unknown: {unknown[:5]}": (
            bool(ended) and not unknown
        ),
        f"events missed by the plugin: {len(unreported)} {unreported[:5]}": not unreported,
        f"clock moves: {tamperer.moves}, followed by a sweep: {tamperer.wrong_sweeps}": (
            tamperer.moves > 0 and not tamperer.wrong_sweeps
        ),
        f"webhooks: {webhooks}, unaccounted for: {stray[:5]}": webhooks > 0 and not stray,
        f"errors in the log: {errors[:3]}": not errors,
        f"threads: {first.threads}, later {last.threads}": last.threads <= _MAX_THREADS,
        f"open files: {first.files}, later {last.files}": last.files <= first.files + _EXTRA_FILES,
        f"memory: {first.megabytes:.0f} MB, later {last.megabytes:.0f} MB": (
            last.megabytes <= first.megabytes + _EXTRA_MB
        ),
        f"exit code: {code}": code == 0,
        **checked,
    }
    for what, holds in checks.items():
        print(f"{'ok  ' if holds else 'WRONG'} {what}")
    return 0 if all(checks.values()) else 1


def _minute_with_fault(
    minute: int, root: Path, environment: dict[str, str], load: Load, tamperer: "Tamperer"
) -> tuple[dict[str, bool], list[Any]]:
    """Run the service for a minute with the minute's fault, and kill it.

    Return the results of the fault's checks, by name, and the errors in the log.
    """
    fault = _EXTRA_FAULTS[(minute - 1) % len(_EXTRA_FAULTS)]
    name, checked = f"{fault}, minute {minute}", {}
    if fault == "damaged jobs" and (root / _JOBS).is_file():
        _damage(root / _JOBS)
        load.finished_jobs.clear()
        load.accepted_jobs.clear()
        load.webhooks.clear()
    clock = root / ".state" / "clock.json"
    if fault == "clock ahead":
        _jump_ahead(clock)
    with Service(root, environment) as service:
        load.url = service.url
        if minute == 1:
            load.start()
        end = time.monotonic() + 60
        tamperer.begin_minute(service, with_clock=fault != "clock ahead")
        if fault in _DURING:
            checked[name] = _DURING[fault](service, root)
        time.sleep(max(0.0, end - time.monotonic()))
        if fault == "clock ahead":
            checked[name] = _NO_SWEEP in service.get("/metrics").text
            clock.unlink(missing_ok=True)
        print(f"minute {minute}, then killed: {_format(Figures.of(service.pid))}", flush=True)
        service.kill()
        return checked, _errors(service)


def _errors(service: Service) -> list[Any]:
    errors = [line for line in service.log if line["level"] == "error"]
    return [line for line in errors if not line["event"].endswith(_EXPECTED_ERRORS)]


def _account_for_jobs(service: Service, accepted: set[str]) -> tuple[list[str], list[str]]:
    """Return which *accepted* jobs the service does not have, and the IDs of finished ones."""
    responses = {path: service.get(path) for path in accepted}
    unknown = [
        path for path, response in responses.items() if response.status_code != HTTPStatus.OK
    ]
    known = [response.json() for path, response in responses.items() if path not in unknown]
    return unknown, [job["id"] for job in known if job["state"] != "running"]


class Tamperer:
    """Tampers with the state files under *root*, and moves the *clock*, once a minute."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._state, self._clock = root / ".state", clock
        self._wanted: queue.Queue[tuple[Service, bool] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run)
        self.removed: Counter[str] = Counter()
        self.moves = self.wrong_sweeps = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._wanted.put(None)
        self._thread.join()

    def begin_minute(self, service: Service, *, with_clock: bool = True) -> None:
        self._wanted.put((service, with_clock))

    def _run(self) -> None:
        for turn, wanted in enumerate(iter(self._wanted.get, None)):
            # Wait until an unplugged disk is back.
            time.sleep(_SECONDS_BEFORE)
            service, with_clock = wanted
            spared = () if with_clock else ("clock.json",)
            self.removed.update(tamper(self._state, turn, spared))
            # On a slow machine, the service may be killed before this ends.
            with suppress(requests.RequestException):
                for seconds in _CLOCK_MOVES if with_clock else ():
                    self._clock.move(seconds)
                    # Wait for a sweep that began before the move.
                    time.sleep(_SECONDS_FOR_A_SWEEP)
                    before = _sweeps(service)
                    time.sleep(_SECONDS_AT_A_WRONG_TIME)
                    self.wrong_sweeps += _sweeps(service) != before
                    self.moves += 1
            self._clock.move(0)


def _sweeps(service: Service) -> str:
    found = _SWEPT.search(service.get("/metrics").text)
    return found[1] if found else ""


def _stray_webhooks(
    load: Load, receivers: Receivers, service: Service, root: Path
) -> list[tuple[str, str]]:
    """Return the finished jobs whose webhook is unaccounted for, each with its receiver.

    Webhooks to the working receiver must be delivered. Those to the others must be waiting or given
    up.
    """
    for _ in range(60):
        expected = {job for job, receiver in load.webhooks.items() if receiver == receivers.working}
        if expected <= receivers.jobs:
            break
        time.sleep(0.5)
    known = receivers.jobs | {
        line["job"] for line in service.log if line["event"] == "webhook given up"
    }
    with sqlite3.connect(f"file:{root / _JOBS}?mode=ro", uri=True) as database:
        waiting = {job for (job,) in database.execute("SELECT job FROM deliveries")}
    database.close()
    stray = []
    for job, receiver in load.webhooks.items():
        if job in known or (job in waiting and receiver != receivers.working):
            continue
        response = service.get(f"/jobs/{job}").json()
        if receiver == receivers.working or response.get("webhook_state") != "given_up":
            stray.append((job, receiver))
    return stray


def _damage(jobs: Path) -> None:
    content = bytearray(jobs.read_bytes())
    content[: len(content) // 2] = random.Random(0).randbytes(len(content) // 2)  # noqa: S311
    jobs.write_bytes(content)


def _jump_ahead(clock: Path) -> None:
    """Change the service's last clock record to a year ago, as if the clock had jumped ahead."""
    now = read_clocks()
    record = {"wall": now.wall - _YEAR, "running": now.running, "boot": now.boot}
    # The file may have been replaced with a FIFO.
    clock.unlink(missing_ok=True)
    clock.write_text(json.dumps(record))


def _unplug(service: Service, root: Path) -> bool:
    """Move the media folder away; return whether /ready was 503 and no new folder was created."""
    unplugged = root.with_name(f"{root.name}-unplugged")
    root.rename(unplugged)
    time.sleep(5)
    response, recreated = service.get("/ready"), root.exists()
    if recreated:
        shutil.rmtree(root)
    unplugged.rename(root)
    return response.status_code == HTTPStatus.SERVICE_UNAVAILABLE and not recreated


def _attack_slowly(service: Service, _root: Path) -> bool:
    """Attack with slow headers, bodies and readers; return whether /health always responded.

    Each attack lasts 10 seconds.
    """
    healthy = True
    for kind in ("-H", "-B", "-X"):
        command = ["slowhttptest", kind, "-c", "400", "-r", "200", "-i", "2", "-l", "10"]
        command += ["-t", "POST"] if kind == "-B" else ["-t", "GET"]
        with subprocess.Popen(
            [*command, "-u", f"{service.url}/posts"], stdout=subprocess.DEVNULL
        ) as attack:
            while attack.poll() is None:
                healthy &= service.get("/health").text == "OK"
                time.sleep(0.2)
    return healthy


_EXTRA_FAULTS = ("nothing", "damaged jobs", "clock ahead", "disk unplugged", "slow clients")
_DURING = {"disk unplugged": _unplug, "slow clients": _attack_slowly}


def _format(figures: Figures) -> str:
    return f"{figures.threads} threads, {figures.files} files, {figures.megabytes:.0f} MB"


def _state(service: Service, path: str) -> str:
    return str(service.get(path).json().get("state"))


def _incomplete_posts(root: Path, instagram: StandIn) -> int:
    """Return how many of the posts that clients can get are incomplete."""
    incomplete = 0
    for folder in root.glob("[!.]*"):
        manifest = json.loads((folder / "post.json").read_text())
        files = [(folder / file["filename"]).read_bytes() for file in manifest["media"]]
        sizes = [file["size"] for file in manifest["media"]]
        incomplete += [len(content) for content in files] != sizes
        # Posts of other scenarios may lack an item, or have a smaller picture.
        if folder.name.partition("-")[0] in _POSTS:
            incomplete += files != instagram.bytes_of(folder.name)
    return incomplete


if __name__ == "__main__":
    sys.exit(main())
