"""What integration tests share beside tests/conftest.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client_process import StartClient, starting
from tests.support.engine import Benches, benches


@pytest.fixture
def start() -> Iterator[StartClient]:
    """Starts ``unpd client ...``, and kills what is left of it after the test."""
    with starting() as start_client:
        yield start_client


@pytest.fixture(params=[True, False], ids=["hot", "general"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Benches]:
    """Makes benches whose engines have a hot path, and again without: behaviour is the
    same on both.
    """
    with benches(tmp_path, hot_path=request.param) as made:
        yield made
