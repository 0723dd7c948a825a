"""Replicas and workers as processes that share one Redis and one media folder."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from scrapper.replicas import queue
from tests.instagram import StandIn
from tests.process import Service, Worker, wait_for
from tests.redis_server import RedisServer

REEL = "https://www.instagram.com/reel/{}/"
GONE = "redis does not answer: continuing without it"
TAKEN_OVER = "post of a lost worker taken over"
ABANDONED_SECONDS = 2.0
# The heartbeat is shortened in proportion, so that a slow worker does not count as lost.
SOON = {
    "scrapper.replicas.queue.ABANDONED_SECONDS": ABANDONED_SECONDS,
    "scrapper.replicas.queue._HEARTBEAT_SECONDS": ABANDONED_SECONDS / 4,
    "scrapper.replicas.turn.LEASE_SECONDS": 2.0,
}

Started = TypeVar("Started", Service, Worker)


class Fleet:
    """Running replicas and workers."""

    def __init__(self, replicas: list[Service], workers: list[Worker]) -> None:
        self.replicas = replicas
        self.workers = workers

    def submit(self, *shortcodes: str, to: int = 0) -> str:
        answer = self.replicas[to].post("/jobs", {"urls": [REEL.format(it) for it in shortcodes]})
        assert answer.status_code == 202
        return f"/jobs/{answer.json()['id']}"

    def finish(self, job: str, *, at: int = 1) -> dict[str, Any]:
        wait_for(lambda: self.replicas[at].get(job).json()["state"] != "running")
        shown: dict[str, Any] = self.replicas[at].get(job).json()
        return shown


@pytest.fixture
def environment(instagram: StandIn, redis_server: RedisServer) -> dict[str, str]:
    return {**instagram.environment, "REDIS_URL": redis_server.url, "INSTAGRAM_MAX_QUERIES": "0"}


@contextmanager
def running(
    media_root: Path,
    environment: dict[str, str],
    *,
    replicas: int = 2,
    workers: int = 0,
    constants: Mapping[str, float] = SOON,
) -> Iterator[Fleet]:
    def started(kind: type[Started], number: int) -> list[Started]:
        return [
            processes.enter_context(kind(media_root, environment, constants=constants))
            for _ in range(number)
        ]

    with ExitStack() as processes:
        yield Fleet(started(Service, replicas), started(Worker, workers))


def worker(media_root: Path, environment: dict[str, str]) -> Worker:
    return Worker(media_root, environment, constants=SOON)


def in_background(service: Service, shortcode: str, **body: Any) -> list[requests.Response]:
    """Scrape in a thread; return a list that will contain the response."""
    answers: list[requests.Response] = []

    def scrape() -> None:
        try:
            answers.append(service.scrape(REEL.format(shortcode), **body))
        except requests.ConnectionError:
            return

    threading.Thread(target=scrape).start()
    return answers


def metrics(service: Service) -> str:
    return service.get("/metrics").text


def wait_until_queued(redis_server: RedisServer) -> None:
    """Wait until a replica is waiting for a turn that another process holds."""
    redis: Any = redis_server.client
    redis.config_resetstat()
    # A waiting process checks the lease once a second.
    wait_for(lambda: "cmdstat_pttl" in redis.info("commandstats"))


def fence_of(media_root: Path, shortcode: str) -> int:
    fence: int = json.loads((media_root / shortcode / "post.json").read_text())["fence"]
    return fence


def test_300_requests_to_all_replicas_make_one_query(
    instagram: StandIn, environment: dict[str, str], media_root: Path
) -> None:
    with running(media_root, environment, replicas=3, workers=2) as fleet:
        instagram.hold()
        job = fleet.submit("reel-all")
        with ThreadPoolExecutor(300) as threads:
            answers = [
                threads.submit(fleet.replicas[number % 3].scrape, REEL.format("reel-all"))
                for number in range(300)
            ]
            # One request to each replica starts a flight. The others join it.
            joined = "scrape_flights_joined_total 99.0"
            wait_for(lambda: all(joined in it for it in map(metrics, fleet.replicas)))
            wait_for(lambda: instagram.requests("graphql") > 0)
            instagram.release()
        statuses = Counter(answer.result().status_code for answer in answers)
        assert statuses == {200: 300}
        assert fleet.finish(job)["posts"][0]["status"] == 200
    assert instagram.requests("graphql") == 1
    assert instagram.requests("media") == 2


def test_all_replicas_report_the_same_error(
    instagram: StandIn,
    environment: dict[str, str],
    redis_server: RedisServer,
    media_root: Path,
) -> None:
    with running(media_root, environment) as fleet:
        instagram.hold()
        answers = [in_background(replica, "removed-post") for replica in fleet.replicas]
        wait_for(lambda: instagram.requests("graphql") > 0)
        wait_until_queued(redis_server)
        instagram.release()
        wait_for(lambda: all(answers))
    assert [answer[0].status_code for answer in answers] == [404, 404]
    assert instagram.requests("graphql") == 1


def test_a_killed_replica_delays_the_others_by_one_lease(
    instagram: StandIn,
    environment: dict[str, str],
    redis_server: RedisServer,
    media_root: Path,
) -> None:
    with running(media_root, environment) as fleet:
        instagram.hold()
        in_background(fleet.replicas[0], "reel-killed")
        wait_for(lambda: instagram.requests("graphql") == 1)
        answer = in_background(fleet.replicas[1], "reel-killed")
        wait_until_queued(redis_server)
        assert instagram.requests("graphql") == 1
        fleet.replicas[0].kill()
        instagram.release()
        wait_for(lambda: bool(answer))
    assert answer[0].status_code == 200
    assert instagram.requests("graphql") == 2
    [content] = instagram.bytes_of("reel-killed")
    assert (media_root / "reel-killed/reel-killed.mp4").read_bytes() == content


def test_a_paused_replica_does_not_overwrite_later_posts(
    instagram: StandIn, environment: dict[str, str], media_root: Path
) -> None:
    with running(media_root, environment) as fleet:
        fleet.replicas[1].scrape(REEL.format("reel-paused"))
        instagram.hold()
        early = in_background(fleet.replicas[0], "reel-paused", refresh=True)
        wait_for(lambda: instagram.requests("graphql") == 2)
        fleet.replicas[0].pause()
        late = in_background(fleet.replicas[1], "reel-paused", refresh=True)
        wait_for(lambda: instagram.requests("graphql") == 3)
        instagram.release()
        wait_for(lambda: bool(late))
        assert late[0].status_code == 200
        fence = fence_of(media_root, "reel-paused")
        fleet.replicas[0].resume()
        wait_for(lambda: bool(early))
        assert early[0].status_code == 200
        assert fence_of(media_root, "reel-paused") == fence
        wait_for(lambda: fleet.replicas[0].logged("a later turn stored the post") == 1)
    assert list((media_root / ".incoming").iterdir()) == []


def test_a_429_to_one_replica_stops_them_all(
    instagram: StandIn, environment: dict[str, str], media_root: Path
) -> None:
    with running(media_root, environment, workers=1) as fleet:
        assert fleet.replicas[0].scrape(REEL.format("limited-one")).status_code == 429
        answer = fleet.replicas[1].scrape(REEL.format("reel-other"))
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 17
        job = fleet.submit("reel-job")
        wait_for(lambda: fleet.replicas[1].get(job).json()["posts"][0]["state"] == "waiting")
    assert instagram.requests("graphql") == 1


def test_another_worker_finishes_the_posts_of_a_killed_worker(
    instagram: StandIn, environment: dict[str, str], media_root: Path
) -> None:
    posts = [f"reel-{number}" for number in range(10)]
    with running(media_root, environment, workers=2) as fleet:
        instagram.hold_media()
        job = fleet.submit(*posts)
        wait_for(lambda: instagram.requests("media") >= 10)
        fleet.workers[0].kill()
        instagram.release_media()
        finished = fleet.finish(job)
    assert [post["status"] for post in finished["posts"]] == [200] * 10
    for shortcode in posts:
        [content] = instagram.bytes_of(shortcode)
        assert (media_root / shortcode / f"{shortcode}.mp4").read_bytes() == content


def test_jobs_wait_for_the_first_worker(
    instagram: StandIn, environment: dict[str, str], media_root: Path
) -> None:
    with running(media_root, environment) as fleet:
        job = fleet.submit("reel-waits")
        with worker(media_root, environment) as first:
            assert fleet.finish(job)["posts"][0]["status"] == 200
            first.terminate()
            assert first.wait() == 0


def test_a_stopping_worker_finishes_its_posts(
    instagram: StandIn, environment: dict[str, str], media_root: Path
) -> None:
    with running(media_root, environment, workers=1) as fleet:
        instagram.hold()
        job = fleet.submit("reel-last")
        wait_for(lambda: instagram.requests("graphql") == 1)
        with worker(media_root, environment) as other:
            fleet.workers[0].terminate()
            time.sleep(ABANDONED_SECONDS * 1.5)
            instagram.release()
            assert fleet.workers[0].wait() == 0
            assert fleet.finish(job)["posts"][0]["status"] == 200
            assert other.logged(TAKEN_OVER) == 0


@pytest.mark.parametrize(
    "settings", [{"WORKER_GRACE_SECONDS": "0.2"}, {"SCRAPE_TIMEOUT_SECONDS": "6"}]
)
def test_a_stopping_worker_returns_posts_to_the_queue(
    instagram: StandIn, environment: dict[str, str], media_root: Path, settings: dict[str, str]
) -> None:
    impatient = {**environment, **settings}
    with running(media_root, environment) as fleet, worker(media_root, impatient) as ending:
        instagram.hold_media()
        job = fleet.submit("reel-back", "reel-too")
        wait_for(lambda: instagram.requests("media") == 2)
        with worker(media_root, environment) as other:
            ending.terminate()
            # The second downloads show that the first worker released its turns.
            wait_for(lambda: instagram.requests("media") == 4)
            assert ending.wait() == 0
            instagram.release_media()
            assert [post["status"] for post in fleet.finish(job)["posts"]] == [200, 200]
            assert other.logged(TAKEN_OVER) == 0
        assert ending.logged("posts handed back") >= 1
        assert [line for line in ending.log if line["level"] == "error"] == []


def test_only_posts_of_killed_workers_are_downloaded_twice(
    instagram: StandIn,
    environment: dict[str, str],
    redis_server: RedisServer,
    media_root: Path,
) -> None:
    shortcodes = [f"slow-{number}" for number in range(24)]
    environment |= {"SCRAPE_CONCURRENCY": "2"}
    again: set[str] = set()
    with running(media_root, environment) as fleet, ExitStack() as workers:

        def start() -> Worker:
            return workers.enter_context(worker(media_root, environment))

        alive = [start() for _ in range(3)]
        job = fleet.submit(*shortcodes)
        for _ in range(3):
            wait_for(lambda: bool(held_by(redis_server, alive[0])))
            killed = alive.pop(0)
            killed.kill()
            again |= {shortcodes[index] for index in held_by(redis_server, killed)}
            alive.append(start())
        finished = fleet.finish(job)
    assert [post["status"] for post in finished["posts"]] == [200] * len(shortcodes)
    twice = {it for it in shortcodes if instagram.requests("graphql", it) > 1}
    assert twice <= again
    assert all(instagram.requests("graphql", it) for it in shortcodes)


def held_by(redis_server: RedisServer, worker: Worker) -> set[int]:
    """Return the positions in the job of the posts that *worker* holds."""
    [name] = [line["worker"] for line in worker.log if line["event"] == "working"]
    redis: Any = redis_server.client
    pending = redis.xpending_range("scrapper:queue", "workers", "-", "+", 100, name)
    data = dict(redis.xrange("scrapper:queue"))
    messages = [data.get(entry["message_id"]) for entry in pending]
    return {json.loads(fields[b"data"])["args"][1] for fields in messages if fields}


def test_a_worker_serves_health_and_metrics(
    instagram: StandIn, environment: dict[str, str], media_root: Path
) -> None:
    environment |= {"WORKER_PORT": "0", "API_KEY": "sixteen-characters"}
    with (
        running(media_root, environment, replicas=1, workers=1) as fleet,
        requests.Session() as web,
    ):
        web.trust_env = False
        [monitored] = fleet.workers
        [start] = [line for line in monitored.log if line["event"] == "working"]
        assert environment["REDIS_URL"].endswith(start["redis"])
        assert (start["queue"], start["posts_at_once"]) == ("scrapper:queue", 8)
        url = f"http://{start['host']}:{start['port']}"
        assert web.get(f"{url}/health", timeout=60).text == "OK"
        ready = web.get(f"{url}/ready", timeout=60)
        assert (ready.status_code, ready.json()["redis"]) == (200, True)
        assert web.get(f"{url}/metrics", timeout=60).status_code == 401
        assert web.get(f"{url}/posts", timeout=60).status_code == 401
        for headers in (web.headers, fleet.replicas[0].headers):
            headers["X-API-Key"] = "sixteen-characters"
        assert web.get(f"{url}/posts", timeout=60).status_code == 404
        wait_for(lambda: "queue_workers 1.0" in web.get(f"{url}/metrics", timeout=60).text)
        assert 'queue_posts{state="waiting"} 0.0' in metrics(fleet.replicas[0])
        monitored.terminate()
        assert monitored.wait() == 0


def test_a_worker_may_start_before_redis(
    instagram: StandIn,
    environment: dict[str, str],
    redis_server: RedisServer,
    media_root: Path,
) -> None:
    redis_server.stop()
    try:
        with running(media_root, environment, workers=1) as fleet:
            wait_for(lambda: all(it.logged(GONE) for it in (*fleet.replicas, *fleet.workers)))
            redis_server.start()
            wait_for(lambda: fleet.replicas[0].get("/ready").status_code == 200)
            assert fleet.finish(fleet.submit("reel-early"), at=0)["posts"][0]["status"] == 200
    finally:
        if not redis_server.is_running():
            redis_server.start()


def test_a_redis_outage_causes_no_wrong_response(
    instagram: StandIn,
    environment: dict[str, str],
    redis_server: RedisServer,
    media_root: Path,
) -> None:
    environment |= {"RATE_LIMIT_MAX_REQUESTS": "100000", "RATE_LIMIT_WINDOW_SECONDS": "1"}
    answers: list[tuple[int, str, dict[str, Any]]] = []
    ended = threading.Event()

    def load(replica: Service, number: int) -> None:
        turn = 0
        while not ended.is_set():
            turn += 1
            shortcode = f"reel-{number}-{turn // 2}"
            answer = replica.scrape(REEL.format(shortcode))
            answers.append((answer.status_code, shortcode, answer.json()))
            time.sleep(0.05)

    with running(media_root, environment, replicas=3, workers=2, constants={}) as fleet:
        jobs = [
            fleet.submit(*(f"reel-job{turn}-{number}" for number in range(20))) for turn in (1, 2)
        ]
        threads = [
            threading.Thread(target=load, args=[replica, number])
            for number, replica in enumerate(fleet.replicas)
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(answers) >= 10)
        redis_server.stop()
        try:
            processes = [*fleet.replicas, *fleet.workers]
            wait_for(lambda: all(process.logged(GONE) for process in processes))
            time.sleep(queue.ABANDONED_SECONDS * 1.2)
            assert fleet.replicas[0].get("/ready").json()["redis"] is False
            assert fleet.replicas[0].get(jobs[0]).status_code == 503
            late = fleet.replicas[0].post("/jobs", {"urls": [REEL.format("reel-late")]})
            assert (late.status_code, late.headers["Retry-After"]) == (503, "5")
        finally:
            redis_server.start()
        for replica in fleet.replicas:
            wait_for(lambda replica=replica: replica.get("/ready").status_code == 200)  # type: ignore[misc]
        finished = [fleet.finish(job) for job in jobs]
        before = len(answers)
        wait_for(lambda: len(answers) >= before + 10)
        ended.set()
        for thread in threads:
            thread.join()
        for process in processes:
            # On a slow machine, Redis may time out again.
            gone = process.logged(GONE)
            assert process.logged("redis is back") == gone >= 1
            # On a slow machine, a worker may be silent for so long that it counts as lost.
            lost = [line for line in process.log if line["event"] == TAKEN_OVER]
            assert all(line["silent"] >= queue.LATE_SECONDS for line in lost)
            assert [line for line in process.log if line["level"] == "error"] == []
    assert len(answers) >= len(fleet.replicas)
    assert {status for status, _, _ in answers} == {200}
    assert all(answer["shortcode"] == shortcode for _, shortcode, answer in answers)
    assert [[post["status"] for post in job["posts"]] for job in finished] == [[200] * 20] * 2


def test_a_worker_without_redis_url_names_the_setting(
    media_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process = Worker(media_root, {})
    process.start()
    assert process.wait() == 2
    assert "REDIS_URL" in capfd.readouterr().err


def test_no_log_line_contains_the_redis_password(
    instagram: StandIn, redis_server: RedisServer, media_root: Path
) -> None:
    # The server has no password, and refuses clients that send one.
    url = redis_server.url.replace("//", "//:pass%2Fword@")
    environment = {**instagram.environment, "REDIS_URL": url, "LOG_LEVEL": "debug"}
    with running(media_root, environment, workers=1) as fleet:
        assert fleet.replicas[0].scrape(REEL.format("reel-secret")).status_code == 200
        assert fleet.replicas[0].get("/ready").status_code == 503
        for process in (*fleet.replicas, *fleet.workers):
            wait_for(lambda process=process: process.logged("working") or len(process.log) > 2)  # type: ignore[misc]
            process.terminate()
            process.wait()
            text = "".join(process.raw_log)
            assert "pass/word" not in text
            assert "pass%2Fword" not in text
