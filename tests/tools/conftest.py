"""A stage for each module: in development, and in production."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import PostgresServer
from tests.tools.stage import Stage


def _database(request: pytest.FixtureRequest) -> str:
    return "shop_" + request.module.__name__.rpartition("test_")[2]


@pytest.fixture(scope="module")
def stage(postgres18: PostgresServer, request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(postgres18, _database(request))
    yield made
    made.close()


@pytest.fixture(scope="module")
def production(postgres18: PostgresServer, request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(postgres18, _database(request) + "_live", "production")
    yield made
    made.close()
