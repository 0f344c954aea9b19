"""The messages between the master and a child: first the child's report, then questions
and their answers.

Owns the format of a report and the order of the channel. A child sends one report,
``{"report": "ready"}`` or ``{"report": "failed", "code": 77, "reason": "..."}``. After
that it sends one answer for each question, in their order. Anything else breaks the
protocol: the master closes the channel, and the child goes on without it.

:func:`watch` is called by the performers after a fork; :func:`take_last_words` by
:mod:`unpd.master.children.reap` after a death.
"""

import select
from collections.abc import Callable, Mapping
from typing import Any

from unpd.channel import ChannelError, ChannelFullError
from unpd.core import events as ev
from unpd.errors import UnpdError
from unpd.master.runtime import ChildProcess, Runtime
from unpd.names import ExitCode

MAX_REASON_CHARACTERS = 4000
"""A reason is a sentence or two; a line of the channel is bounded."""

Answered = Callable[[dict[str, Any] | None], None]
"""Called with the answer to a question, or with None if the child will give none."""


def ready() -> dict[str, Any]:
    """The report of a child that serves."""
    return {"report": "ready"}


def failure(error: UnpdError) -> dict[str, Any]:
    """The report of a child that cannot serve because of ``error``."""
    code, reason = int(error.exit_code), str(error)[:MAX_REASON_CHARACTERS]
    return {"report": "failed", "code": code, "reason": reason}


def event_of(birth: int, report: Mapping[str, Any]) -> ev.ChildReady | ev.ChildFailed:
    """The event that a report means. ChannelError if it is no report."""
    match report:
        case {"report": "ready"}:
            return ev.ChildReady(birth)
        case {"report": "failed", "code": int(code), "reason": str(reason)}:
            known = code in tuple(ExitCode)
            return ev.ChildFailed(birth, reason, ExitCode(code) if known else ExitCode.FAILED)
    raise ChannelError("the first message is no report")


def watch(runtime: Runtime, birth: int) -> None:
    """Read the channel of a new child whenever something comes."""
    channel = runtime.processes[birth].channel
    runtime.loop.watch(channel.fileno(), select.EPOLLIN, lambda _: read(runtime, birth))


def ask(runtime: Runtime, birth: int, question: Mapping[str, Any], answered: Answered) -> None:
    """Send a question to a child that has reported; call ``answered`` later, or at once
    with None if the child cannot be asked. A child that is hung answers when it is
    killed: with None.
    """
    process = runtime.processes.get(birth)
    if process is None or not process.reported or process.channel.ended:
        answered(None)
        return
    try:
        process.channel.send(question)
    except ChannelFullError:
        answered(None)
        return
    process.unanswered.append(answered)
    _watch_writable(runtime, birth, process)


def read(runtime: Runtime, birth: int) -> None:
    """Take what a child sent, and send what waits for room."""
    process = runtime.processes.get(birth)
    if process is None or process.channel.ended:
        return
    try:
        for message in process.channel.receive():
            _take(runtime, birth, process, message)
    except ChannelError as error:
        runtime.log.event("channel.broken", birth=birth, pid=process.pid, reason=str(error))
        process.channel.ended = True
    if process.channel.ended:
        _give_up(runtime, process)
    elif process.channel.pending:
        process.channel.flush()
        _watch_writable(runtime, birth, process)


def take_last_words(runtime: Runtime, birth: int) -> None:
    """Read what a dead child left in its channel, and close that."""
    process = runtime.processes[birth]
    read(runtime, birth)
    if not process.channel.ended:
        process.channel.ended = True
        _give_up(runtime, process)
    process.channel.close()


def _take(runtime: Runtime, birth: int, process: ChildProcess, message: dict[str, Any]) -> None:
    if not process.reported:
        process.reported = True
        runtime.events.append(event_of(birth, message))
    elif process.unanswered:
        process.unanswered.popleft()(message)
    else:
        raise ChannelError("an answer came without a question")


def _give_up(runtime: Runtime, process: ChildProcess) -> None:
    """Stop watching a channel that has ended; whoever still waits gets no answer."""
    runtime.loop.forget(process.channel.fileno())
    while process.unanswered:
        process.unanswered.popleft()(None)


def _watch_writable(runtime: Runtime, birth: int, process: ChildProcess) -> None:
    """Watch for room too while a question waits for it."""
    mask = select.EPOLLIN | (select.EPOLLOUT if process.channel.pending else 0)
    runtime.loop.watch(process.channel.fileno(), mask, lambda _: read(runtime, birth))
