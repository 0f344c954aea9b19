"""The log in journald."""

import os
import re
from collections.abc import Mapping
from signal import SIGKILL
from typing import Any

import pytest

from tests.packaging.installed import ECHO, SERVICE, Installed
from tests.support import clients
from tests.support.waiting import until

pytestmark = pytest.mark.packaging

STAMP = re.compile(r"\d{4}-\d\d-\d\d")


def entries(unpd: Installed, event: str) -> list[Mapping[str, Any]]:
    """The entries of that event in the journal, in this test."""
    return unpd.machine.journal(unpd.since, _SYSTEMD_UNIT=SERVICE, UNPD_EVENT=event)


def test_priorities_and_fields(unpd: Installed) -> None:
    """Each entry has the priority of its level, and a field for each value. No message
    begins with the time.
    """
    unpd.start()
    os.kill(unpd.children()[0], SIGKILL)
    until(
        lambda: entries(unpd, "worker.died"),
        10.0,
        lambda: f"the death in the journal: {unpd.messages()}",
    )
    unpd.edit(("grace_s = 10", "grace = 10"))
    unpd.systemctl("reload", "unpd", check=False)
    ready = entries(unpd, "master.ready")[0]
    assert ready["PRIORITY"] == "6"
    assert ready["UNPD_GENERATION"] == "1"
    assert ready["SYSLOG_IDENTIFIER"] == "unpd"
    died = entries(unpd, "worker.died")[0]
    assert died["PRIORITY"] == "4"
    assert died["UNPD_POOL"] == "default"
    assert entries(unpd, "reload.refused")[0]["PRIORITY"] == "3"
    assert not [line for line in unpd.messages() if STAMP.match(line)]


def test_children_log_for_themselves(unpd: Installed) -> None:
    """An entry of a worker comes from the worker, not from the main process."""
    unpd.edit(('level = "info"', 'level = "debug"'))
    unpd.start()
    assert clients.converse(ECHO, b"hello") == b"hello"
    entry = until(
        lambda: entries(unpd, "connection.ended"), 10.0, "the connection's end in the journal"
    )[0]
    assert unpd.machine.outer_pid(int(entry["_PID"])) in unpd.children()
    assert entry["PRIORITY"] == "7"
    assert entry["UNPD_SERVICE"] == "echo"
