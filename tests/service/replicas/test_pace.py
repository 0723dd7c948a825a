"""The pace that replicas share in a real Redis."""

from scrapper.replicas.client import blocking_client
from scrapper.replicas.pace import RedisWindow
from tests.redis_server import RedisServer


def test_replicas_share_the_count_of_session_requests(redis_server: RedisServer) -> None:
    client = blocking_client(redis_server.url)
    one, other = (RedisWindow(client, "session") for _ in range(2))
    waits = [window.take("query", 3, 600) for window in (one, other, one)]
    assert waits == [None, None, None]
    wait = other.take("query", 3, 600)
    assert wait is not None
    assert 0 < wait <= 600
    # Pages are counted separately.
    assert other.take("page", 3, 600) is None
    # The refused request was not sent, so it does not count.
    assert [one.take("query", 4, 600) is None for _ in range(2)] == [True, False]


def test_without_redis_each_replica_counts_its_own_requests(redis_server: RedisServer) -> None:
    window = RedisWindow(blocking_client("redis://127.0.0.1:9/0"), "session")
    assert [window.take("query", 1, 600) is None for _ in range(2)] == [True, False]
