"""The variants of the service that the benchmarks compare."""

from collections.abc import Iterator
from unittest import mock

import pytest

from tests.bench.without import OPTIMISATIONS


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    mock.patch.stopall()


@pytest.mark.parametrize("name", OPTIMISATIONS)
@pytest.mark.usefixtures("restored")
def test_every_optimisation_can_be_disabled(name: str) -> None:
    OPTIMISATIONS[name]()
