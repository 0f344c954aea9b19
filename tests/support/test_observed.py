"""The parsers of what a daemon shows."""

import pytest

from tests.support.observed import known


def test_only_a_name_of_the_table_is_a_log_event() -> None:
    """A test cannot expect a line, or none, of an event that does not exist."""
    assert known("log.not_reopened") == "log.not_reopened"
    with pytest.raises(AssertionError, match=r"no log event has the name log\.switch_failed"):
        known("log.switch_failed")
