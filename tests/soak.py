"""``make soak``: ten minutes of mixed load, with faults; in the first half, kills and restarts.

Each minute of the first half ends with a SIGKILL. From the second on it brings one further fault,
in turn: the job file is damaged, the clock jumps a year ahead, the media folder's disk goes away,
and slow clients attack (slowhttptest, a Debian package). The last process runs for the second
half, in which its threads, open files and memory must not grow once it is a minute old.
Throughout, one receiver of webhooks is well, one never answers, and one is dead.

Each minute every file in the state folder is removed once, one of them gives way to a FIFO, and the
clock moves ten years ahead, three days back, and to the right time again.

``python -m tests.soak MINUTES`` runs for another time; less than ten minutes have fewer faults.
Every stored post must be complete, no finished job may be lost unless its file was damaged, each
webhook must be delivered, given up or still wait, and no response may be 500. The soak prints the
figures; the exit code is 1 if one is wrong.
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
    # Half a minute: posts come and go.
    "MAX_MEDIA_AGE_DAYS": "0.00035",
}
# While the service is being killed, every job is kept, to see that none is lost. In the last
# process new jobs replace old ones.
_ALL_JOBS, _FEW_JOBS = {"MAX_JOBS": "1000000"}, {"MAX_JOBS": "100"}
_NO_SWEEPS = {"MAX_MEDIA_AGE_DAYS": "0"}
_CLOCK_MOVES = (10 * _YEAR, -3 * 24 * 60 * 60)
_SECONDS_BEFORE, _SECONDS_FOR_A_SWEEP, _SECONDS_AT_A_WRONG_TIME = 8, 3, 8
# What is logged of damaged or removed state files, of a dead receiver, and where few jobs are kept
# of one that was replaced before the plugin knew of it.
_EXPECTED = (
    "file set aside",
    ": file recreated",
    "journal set aside",
    "webhook given up",
    "plugin missed a job: too many wait",
)
_SWEPT = re.compile(r'^library_sweeps_total\{outcome="ok"\} ([\d.]+)', re.MULTILINE)
_POSTS = ("reel", "photo", "carousel", "slow", "big")
# Not those with a Retry-After: nothing else would be scraped during the cool-down.
_FAULTS = [
    name
    for name, scenario in SCENARIOS.items()
    if scenario.api != "limited" and not scenario.api.startswith("retry")
]
_WELL = 0.8
_FINE = {200, 202, 204, 206, 304, 400, 403, 404, 408, 422, 429, 502, 503}
# Clients' connections, those to Instagram, and downloads under way come and go.
_MORE_FILES, _MORE_MB = _CLIENTS + 2 * _WORKERS, 10
# The pools for scrapes and files, asyncio's own, the log's, the moved clock's and the main thread.
_MOST_THREADS = 3 * _WORKERS + min(32, (os.cpu_count() or 1) + 4) + 3
_FETCHED = re.compile(
    r'^scrape_fetch_duration_seconds_count\{outcome="ok"\} ([\d.]+)', re.MULTILINE
)


class Figures(NamedTuple):
    """What a process uses."""

    threads: int
    files: int
    megabytes: float

    @classmethod
    def of(cls, pid: int) -> "Figures":
        process = psutil.Process(pid)
        return cls(process.num_threads(), process.num_fds(), process.memory_info().rss / 1_000_000)

    @classmethod
    def least_of(cls, pid: int) -> "Figures":
        """The least of each in a minute: what stays while bodies and connections come and go."""
        every = []
        for _ in range(120):
            time.sleep(0.5)
            every.append(cls.of(pid))
        return cls(*map(min, zip(*every, strict=True)))


class Receivers:
    """Receivers: one works and notes its jobs, one never answers, and one is dead."""

    def __init__(self) -> None:
        self.jobs = jobs = set[str]()

        class Well(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                jobs.add(json.loads(body)["id"])
                self.send_response(HTTPStatus.NO_CONTENT)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        # A receiver is a host.
        self._well = ThreadingHTTPServer(("127.0.0.1", 0), Well)
        self._stuck, self._dead = socket.create_server(("127.0.0.2", 0)), socket.socket()
        self._dead.bind(("127.0.0.3", 0))
        sockets = (self._well.socket, self._stuck, self._dead)
        self.well, *self.others = ("http://{}:{}/".format(*it.getsockname()) for it in sockets)

    def __enter__(self) -> Self:
        threading.Thread(target=self._well.serve_forever).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._well.shutdown()
        self._well.server_close()
        self._stuck.close()
        self._dead.close()


class Load:
    """Clients that send all kinds of requests, until :meth:`stop`; *receivers* get webhooks."""

    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers
        self.webhooks: dict[str, str] = {}
        self.url = ""
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
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
        dice = random.Random(number)  # noqa: S311
        while not self._stopped.is_set():
            with requests.Session() as session:
                session.trust_env = False
                try:
                    for _ in range(50):
                        if self._stopped.is_set():
                            return
                        self._act(dice, session)
                except requests.RequestException:
                    # The service was killed, and will come back.
                    self.answers["cut"] += 1
                    time.sleep(0.2)

    def _act(self, dice: random.Random, session: requests.Session) -> None:
        scenario = dice.choice(_POSTS if dice.random() < _WELL else _FAULTS)
        shortcode = f"{scenario}-{dice.randrange(200)}"
        url = f"https://www.instagram.com/p/{shortcode}/"
        match dice.randrange(10):
            case 0 | 1 | 2 | 3:
                body = {"url": url, "refresh": dice.random() < 0.1}
                self._send(session, "POST", "/scrape", json=body)
            case 4:
                self._job(dice, session)
            case 5:
                self._send(session, "GET", f"/download/{shortcode}?archive=zip")
            case 6:
                self._send(session, "GET", f"/media/{shortcode}/{shortcode}.mp4")
            case 7:
                self._send(session, "DELETE", f"/posts/{shortcode}")
            case 8:
                self._send(session, "POST", "/scrape", data=dice.randbytes(50))
            case _:
                self._send(session, "GET", dice.choice(["/posts", "/metrics", "/ready", "/none"]))

    def _job(self, dice: random.Random, session: requests.Session) -> None:
        urls = [f"https://www.instagram.com/p/reel-{dice.randrange(200)}/" for _ in range(3)]
        receiver = dice.choice([self._receivers.well, *self._receivers.others])
        body = {"urls": [*urls, "nonsense"], "webhook": receiver}
        answer = self._send(session, "POST", "/jobs", json=body)
        path = answer.headers.get("Location", "")
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
        answer = session.request(method, self.url + path, timeout=60, **body)  # type: ignore[arg-type]
        self.answers[str(answer.status_code)] += 1
        if answer.status_code not in _FINE:
            self.wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer


def main() -> int:  # noqa: PLR0915 - one story, from its first minute to its last
    minutes = int(sys.argv[1]) if sys.argv[1:] else _MINUTES
    if shutil.which("slowhttptest") is None:
        print("needs slowhttptest: on Debian, apt install slowhttptest", file=sys.stderr)
        return 2
    half, errors = 0, []
    held: dict[str, bool] = {}
    figures: list[Figures] = []
    with (
        tempfile.TemporaryDirectory() as name,
        StandIn() as instagram,
        Receivers() as receivers,
    ):
        load = Load(receivers)
        # A folder of its own, which can be taken away.
        root, environment = Path(name) / "media", {**instagram.environment, **_SETTINGS}
        clock, notes = Clock(Path(name)), Notes(Path(name))
        environment |= {**clock.environment, **notes.environment}
        meddling = Meddling(root, clock)
        meddling.start()
        for minute in range(1, minutes // 2 + 1):
            found, logged = _minute_with_fault(
                minute, root, {**environment, **_ALL_JOBS}, load, meddling
            )
            held |= found
            errors += logged
            half += _half_posts(root, instagram)
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
        answered = load.answers.total()
        webhooks = len(load.webhooks)
        load.webhooks.clear()
        with Service(root, {**environment, **_FEW_JOBS}) as service:
            load.url = service.url
            if minutes == 1:
                load.start()
            for minute in range(minutes // 2 + 1, minutes + 1):
                meddling.begin_minute(service)
                figures.append(Figures.least_of(service.pid))
                print(f"minute {minute}, at least: {_shown(figures[-1])}", flush=True)
            fetched = _FETCHED.search(service.get("/metrics").text)
            load.stop()
            done = len(load.finished_jobs - finished)
            meddling.stop()
            webhooks += len(load.webhooks)
            stray += _stray_webhooks(load, receivers, service, root)
            service.terminate()
            code = service.wait()
            errors += _errors(service)
        with Service(root, {**environment, **_NO_SWEEPS}) as service:
            unreported += notes.unaccounted(service, root, ())
            errors += _errors(service)
        half += _half_posts(root, instagram)
    print(f"responses: {dict(load.answers.most_common())}")
    print(f"by the last process: {load.answers.total() - answered} responses, {done} jobs")
    print(f"plugin calls: {notes.counts()}; files removed: {meddling.removed}")
    first, last = figures[:2][-1], figures[-1]
    checks = {
        f"wrong responses: {load.wrong[:5]}": not load.wrong,
        f"posts that the last process fetched: {fetched[1] if fetched else 0}": (
            fetched is not None and float(fetched[1]) > len(figures)
        ),
        f"incomplete posts: {half}": half == 0,
        f"finished jobs: {len(finished)}, lost: {len(lost)}": not lost,
        f"accepted jobs: {len(accepted)}, ended: {len(ended)}, unknown: {unknown[:5]}": (
            bool(ended) and not unknown
        ),
        f"events that the plugin missed: {len(unreported)} {unreported[:5]}": not unreported,
        f"sweeps while the clock was wrong: {meddling.wrong_sweeps}, of {meddling.moves} moves": (
            meddling.moves > 0 and not meddling.wrong_sweeps
        ),
        f"webhooks: {webhooks}, unaccounted for: {stray[:5]}": webhooks > 0 and not stray,
        f"errors in the log: {errors[:3]}": not errors,
        f"threads: {first.threads}, later {last.threads}": last.threads <= _MOST_THREADS,
        f"open files: {first.files}, later {last.files}": last.files <= first.files + _MORE_FILES,
        f"memory: {first.megabytes:.0f} MB, later {last.megabytes:.0f} MB": (
            last.megabytes <= first.megabytes + _MORE_MB
        ),
        f"exit code: {code}": code == 0,
        **held,
    }
    for what, holds in checks.items():
        print(f"{'ok  ' if holds else 'WRONG'} {what}")
    return 0 if all(checks.values()) else 1


def _minute_with_fault(
    minute: int, root: Path, environment: dict[str, str], load: Load, meddling: "Meddling"
) -> tuple[dict[str, bool], list[Any]]:
    """Run the service for a minute, and kill it: whether the fault did no harm; logged errors."""
    fault = _EXTRA_FAULTS[(minute - 1) % len(_EXTRA_FAULTS)]
    name, held = f"{fault}, minute {minute}", {}
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
        meddling.begin_minute(service, with_clock=fault != "clock ahead")
        if fault in _DURING:
            held[name] = _DURING[fault](service, root)
        time.sleep(max(0.0, end - time.monotonic()))
        if fault == "clock ahead":
            held[name] = _NO_SWEEP in service.get("/metrics").text
            clock.unlink(missing_ok=True)
        print(f"minute {minute}, then killed: {_shown(Figures.of(service.pid))}", flush=True)
        service.kill()
        return held, _errors(service)


def _errors(service: Service) -> list[Any]:
    errors = [line for line in service.log if line["level"] == "error"]
    return [line for line in errors if not line["event"].endswith(_EXPECTED)]


def _account_for_jobs(service: Service, accepted: set[str]) -> tuple[list[str], list[str]]:
    """The *accepted* jobs that the service does not know, and the IDs of those that ended."""
    answers = {path: service.get(path) for path in accepted}
    unknown = [path for path, answer in answers.items() if answer.status_code != HTTPStatus.OK]
    known = [answer.json() for path, answer in answers.items() if path not in unknown]
    return unknown, [job["id"] for job in known if job["state"] != "running"]


class Meddling:
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
            # By then a disk that went away is back.
            time.sleep(_SECONDS_BEFORE)
            service, with_clock = wanted
            spared = () if with_clock else ("clock.json",)
            self.removed.update(tamper(self._state, turn, spared))
            # A slow machine may not be done before the kill.
            with suppress(requests.RequestException):
                for seconds in _CLOCK_MOVES if with_clock else ():
                    self._clock.move(seconds)
                    # A sweep that began at the right time may end now.
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
    """The finished jobs of which nobody knows what became of their webhooks.

    The receiver that works must get all of its own; those of the others wait or are given up.
    """
    for _ in range(60):
        well = {job for job, receiver in load.webhooks.items() if receiver == receivers.well}
        if well <= receivers.jobs:
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
        if job in known or (job in waiting and receiver != receivers.well):
            continue
        answer = service.get(f"/jobs/{job}").json()
        if receiver == receivers.well or answer.get("webhook_state") != "given_up":
            stray.append((job, receiver))
    return stray


def _damage(jobs: Path) -> None:
    content = bytearray(jobs.read_bytes())
    content[: len(content) // 2] = random.Random(0).randbytes(len(content) // 2)  # noqa: S311
    jobs.write_bytes(content)


def _jump_ahead(clock: Path) -> None:
    """Make the last look at the clock seem a year old, as if the clock had jumped since."""
    now = read_clocks()
    record = {"wall": now.wall - _YEAR, "running": now.running, "boot": now.boot}
    # A FIFO may be there.
    clock.unlink(missing_ok=True)
    clock.write_text(json.dumps(record))


def _unplug(service: Service, root: Path) -> bool:
    """Take the media folder away; return whether /ready said so and nothing took its place."""
    away = root.with_name(f"{root.name}-unplugged")
    root.rename(away)
    time.sleep(5)
    answer, made = service.get("/ready"), root.exists()
    if made:
        shutil.rmtree(root)
    away.rename(root)
    return answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE and not made


def _attack_slowly(service: Service, _root: Path) -> bool:
    """Slow heads, bodies and readers, 10 s each; return whether /health answered throughout."""
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


_EXTRA_FAULTS = ("nothing", "damaged jobs", "clock ahead", "disk away", "slow clients")
_DURING = {"disk away": _unplug, "slow clients": _attack_slowly}


def _shown(figures: Figures) -> str:
    return f"{figures.threads} threads, {figures.files} files, {figures.megabytes:.0f} MB"


def _state(service: Service, path: str) -> str:
    return str(service.get(path).json().get("state"))


def _half_posts(root: Path, instagram: StandIn) -> int:
    """How many of the posts that a client could get are incomplete."""
    half = 0
    for folder in root.glob("[!.]*"):
        manifest = json.loads((folder / "post.json").read_text())
        files = [(folder / file["filename"]).read_bytes() for file in manifest["media"]]
        sizes = [file["size"] for file in manifest["media"]]
        half += [len(content) for content in files] != sizes
        # Posts of other scenarios may lack an item, or have a smaller picture.
        if folder.name.partition("-")[0] in _POSTS:
            half += files != instagram.bytes_of(folder.name)
    return half


if __name__ == "__main__":
    sys.exit(main())
