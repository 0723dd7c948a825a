"""How long the account is left alone after what a source with a session said."""

import pytest

from scrapper.instagram.pace import Pace
from scrapper.instagram.search import Standing
from scrapper.instagram.sources import WITH_SESSION
from scrapper.instagram.verdict import Reason, Refused

R = Reason


class Clocked:
    """The account's standing, and the clock that it looks at."""

    def __init__(self) -> None:
        self.now = 1000.0
        paces = {"session": Pace(100, 60)}
        self.standing = Standing("session", WITH_SESSION, paces, now=lambda: self.now)

    def rest(self, name: str, reason: Reason, retry_after: float | None = None) -> None:
        self.standing.rest(name, Refused(reason, retry_after=retry_after), 300.0)

    def rests(self) -> dict[str, tuple[Reason, float | None]]:
        found = {source.name: self.standing.rest_of(source.name) for source in WITH_SESSION}
        return {name: (it.reason, it.retry_after) for name, it in found.items() if it}


@pytest.fixture
def account() -> Clocked:
    return Clocked()


@pytest.mark.parametrize("reason", [R.RATE_LIMITED, R.SOFT_BLOCK, R.THROTTLED])
def test_a_limit_rests_the_whole_account(account: Clocked, reason: Reason) -> None:
    account.rest("media_info", reason, 120.0)
    account.now += 20
    assert account.rests() == {"media_info": (reason, 100.0), "api": (reason, 100.0)}
    account.now += 99.5
    assert account.rests() == {"media_info": (reason, 0.5), "api": (reason, 0.5)}
    account.now += 0.5
    assert account.rests() == {}


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [(R.CLOSED, 300.0), (R.FAILED, 30.0), (R.CHANGED, 30.0), (R.WAIT, 30.0), (R.STALE, None)],
)
def test_trouble_rests_one_source(account: Clocked, reason: Reason, seconds: float | None) -> None:
    account.rest("media_info", reason)
    assert account.rests() == {"media_info": (reason, seconds)}


DOUBTFUL = [R.NEEDS_LOGIN, R.LOGIN_WALL, R.NULL, R.RETIRED]


@pytest.mark.parametrize("reason", [R.GONE, R.EMPTY, R.GATED, R.PACE, *DOUBTFUL])
def test_a_source_rests_for_one_post_only_beside_another(account: Clocked, reason: Reason) -> None:
    account.rest("api", reason)
    assert account.rests() == {}
    account.rest("media_info", R.CLOSED)
    account.now += 10
    account.rest("api", reason)
    rests = {"media_info": (R.CLOSED, 290.0), "api": (reason, None)}
    assert account.rests() == {
        name: rests[name] for name in rests if name != "api" or reason in DOUBTFUL
    }
    account.now += 290
    assert account.rests() == {}
