"""The switch of all processes to a new log file, after SIGUSR1.

The master opens the file and gives each child a descriptor of it over the channel, with
an open file description of the child's own: a child has no right to open the file, and
must share no description with the master (:mod:`unpd.sinks`).

A process that goes on with the old file is a fault of the daemon until it has switched,
or has ended. A child has ANSWER_S to answer, so that a rotation that succeeds shows no
fault. Called by the performers, by :mod:`unpd.master.children.reap` after a death, and
by the shell once a second. Calls :mod:`unpd.sinks` and
:mod:`unpd.master.children.reports`. Raises nothing.
"""

from functools import partial
from typing import Any

from unpd import sinks
from unpd.loop import now
from unpd.master.children import reports
from unpd.master.runtime import ChildProcess, Question, Runtime
from unpd.names import Fault, kind_words

SILENCE = "it does not answer"
MASTER = "master"
"""The subject of the master's own fault. That of a child is its birth."""
ANSWER_S = 5.0
"""How long a child may take to switch before that is logged and shown."""
MAX_REASON_CHARACTERS = 200
"""The longest reason of a child that is logged and shown."""


def reopen(runtime: Runtime) -> None:
    """Open the log file by its name again, and have every process write to it."""
    path = runtime.deployment.config.log.file
    if not path:
        runtime.log.event("log.kept", reason="there is no log file")
        return
    owner = (runtime.identity.uid, runtime.identity.gid) if runtime.identity else None
    try:
        fd = sinks.open_file(path, owner)
    except OSError as error:
        reason = sinks.refusal(path, error)
        runtime.faults[Fault.LOG_FAILED, MASTER] = (
            f"the log goes to the old file, because {path} cannot be opened: {reason}"
        )
        runtime.log.event("log.not_reopened", file=path, error=reason)
        return
    runtime.log.sink.switch_to(fd)
    runtime.faults.pop((Fault.LOG_FAILED, MASTER), None)
    runtime.log.event("log.reopened", file=path)
    if sinks.is_shared(runtime.log.sink.fd):
        runtime.log.event("log.shared", file=path)
    for birth in tuple(runtime.processes):
        _hand_over(runtime, birth)


def forget(runtime: Runtime, birth: int) -> None:
    """Remove the fault of a child that was reaped."""
    runtime.faults.pop((Fault.LOG_FAILED, str(birth)), None)


def look_after(runtime: Runtime, at: float) -> None:
    """Log and show each child that has not answered for ANSWER_S. Call it about once a
    second; ``at`` is the time.
    """
    for process in runtime.processes.values():
        if process.log_late_at is not None and at >= process.log_late_at:
            _failed(runtime, process, SILENCE)


def _hand_over(runtime: Runtime, birth: int) -> None:
    """Send a child a descriptor of the new file; after its next answer, if one is still
    on its way.
    """
    process = runtime.processes[birth]
    process.log_orders += 1
    if process.log_orders > 1:
        return
    descriptor = sinks.open_again(runtime.log.sink.fd)
    if descriptor is None:
        process.log_orders = 0
        _failed(runtime, process, "the main process cannot open it once more")
        return
    process.log_late_at = now() + ANSWER_S
    question = Question({"question": "log"}, partial(_answered, runtime, birth), descriptor)
    reports.ask(runtime, birth, question)


def _answered(runtime: Runtime, birth: int, answer: dict[str, Any] | None) -> None:
    process = runtime.processes[birth]
    outdated = process.log_orders > 1
    process.log_orders = 0
    if answer is None:
        # Most such children have just died, and their fault goes when they are reaped.
        # The others are logged when they are late.
        _stays_behind(runtime, process, SILENCE)
    elif outdated:
        _hand_over(runtime, birth)
    elif "error" in answer:
        _failed(runtime, process, reports.shown(str(answer["error"]))[:MAX_REASON_CHARACTERS])
    else:
        process.log_late_at = None
        forget(runtime, birth)


def _failed(runtime: Runtime, process: ChildProcess, reason: str) -> None:
    process.log_late_at = None
    _stays_behind(runtime, process, reason)
    path = runtime.deployment.config.log.file
    runtime.log.event("log.not_reopened", file=path, error=reason, pid=process.pid)


def _stays_behind(runtime: Runtime, process: ChildProcess, reason: str) -> None:
    slot = process.child.slot
    runtime.faults[Fault.LOG_FAILED, str(process.child.birth)] = (
        f"{kind_words(slot.kind)} {slot} (pid {process.pid}) writes to the old log file: {reason}"
    )
