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

LOG_FILE = "/var/log/unpd/unpd.log"
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


def test_a_log_file_is_rotated(unpd: Installed) -> None:
    """The unit makes the directory of the log file. After a rotation as that of the
    shipped /etc/logrotate.d/unpd every process writes to the new file.
    """
    unpd.edit(('file = ""', f'file = "{LOG_FILE}"'))
    unpd.start()
    unpd.machine.run("mv", LOG_FILE, f"{LOG_FILE}.1")
    unpd.machine.run("install", "-m", "0640", "-o", "unpd", "-g", "adm", "/dev/null", LOG_FILE)
    shipped = unpd.machine.path("/etc/logrotate.d/unpd").read_text()
    (command,) = re.findall(r"^ +(systemctl kill .*)$", shipped, re.MULTILINE)
    unpd.machine.run("sh", "-c", command)
    path = unpd.machine.path(LOG_FILE)
    until(lambda: "log.reopened" in path.read_text(), 10.0, "the switch of the main process")
    old = unpd.machine.path(f"{LOG_FILE}.1").stat()
    family = [unpd.pid, *unpd.children("unpd: ")]
    until(lambda: not holders(family, old), 10.0, "the old file to be closed by all")
    assert "degraded" not in unpd.machine.run("unpd", "status").stdout


def holders(pids: list[int], file: os.stat_result) -> list[int]:
    """Which of the processes have ``file`` open."""
    return [
        pid
        for pid in pids
        if any(
            os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), file)
            for fd in os.listdir(f"/proc/{pid}/fd")
        )
    ]


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
