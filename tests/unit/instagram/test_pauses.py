"""How long the account, or one of its sources, is paused after a refusal."""

import pytest

from scrapper.instagram.pace import Pace
from scrapper.instagram.search import SourceGroup
from scrapper.instagram.sources import WITH_SESSION
from scrapper.instagram.verdict import Reason, Refused

R = Reason


class Account:
    """The sources of an account, with a fake clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        paces = {"session": Pace(100, 60)}
        self._group = SourceGroup("session", WITH_SESSION, paces, now=lambda: self.now)

    def refuse(self, name: str, reason: Reason, retry_after: float | None = None) -> None:
        self._group.pause(name, Refused(reason, retry_after=retry_after), 300.0)

    def pauses(self) -> dict[str, tuple[Reason, float | None]]:
        found = {source.name: self._group.pause_of(source.name) for source in WITH_SESSION}
        return {name: (it.reason, it.retry_after) for name, it in found.items() if it}


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.mark.parametrize("reason", [R.RATE_LIMITED, R.SOFT_BLOCK, R.THROTTLED])
def test_limit_pauses_the_whole_account(account: Account, reason: Reason) -> None:
    account.refuse("media_info", reason, 120.0)
    account.now += 20
    assert account.pauses() == {"media_info": (reason, 100.0), "api": (reason, 100.0)}
    account.now += 99.5
    assert account.pauses() == {"media_info": (reason, 0.5), "api": (reason, 0.5)}
    account.now += 0.5
    assert account.pauses() == {}


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [(R.CLOSED, 300.0), (R.FAILED, 30.0), (R.CHANGED, 30.0), (R.WAIT, 30.0), (R.STALE, None)],
)
def test_failure_pauses_only_its_source(
    account: Account, reason: Reason, seconds: float | None
) -> None:
    account.refuse("media_info", reason)
    assert account.pauses() == {"media_info": (reason, seconds)}


DOUBTFUL = [R.NEEDS_LOGIN, R.LOGIN_WALL, R.NULL, R.RETIRED]


@pytest.mark.parametrize("reason", [R.GONE, R.EMPTY, R.GATED, R.PACE, *DOUBTFUL])
def test_doubtful_refusal_pauses_only_while_another_source_is_paused(
    account: Account, reason: Reason
) -> None:
    account.refuse("api", reason)
    assert account.pauses() == {}
    account.refuse("media_info", R.CLOSED)
    account.now += 10
    account.refuse("api", reason)
    pauses = {"media_info": (R.CLOSED, 290.0), "api": (reason, None)}
    assert account.pauses() == {
        name: pauses[name] for name in pauses if name != "api" or reason in DOUBTFUL
    }
    account.now += 290
    assert account.pauses() == {}
