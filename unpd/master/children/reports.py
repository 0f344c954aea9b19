"""The messages between the master and a child: first the child's report, then questions
and their answers.

Owns the format of a report and the order of the messages. A child sends one report,
``{"report": "ready"}`` or ``{"report": "failed", "code": 77, "reason": "..."}``. After
that it sends one answer for each question, in the order of the questions. Any other
message breaks the protocol: the master stops reading the channel, and the child goes on
without it.

The child makes its report with :func:`ready` or :func:`failure`. In the master,
:mod:`unpd.master.perform` calls :func:`watch` after a fork, and
:mod:`unpd.master.children.reap` calls :func:`read_and_close` after a death. Calls
:mod:`unpd.channel`. If a channel breaks, :func:`read` logs the reason.
"""

import select
from collections.abc import Callable, Mapping
from typing import Any

from unpd.channel import ChannelError
from unpd.core import events as ev
from unpd.core.policy import policy_of
from unpd.errors import UnpdError
from unpd.master.runtime import ChildProcess, Runtime
from unpd.names import ExitCode

MAX_REASON_CHARACTERS = 4000
"""The longest reason that a report carries: the channel limits its messages. A usual
reason has one or two sentences.
"""

MAX_QUESTIONS = 16
"""How many questions may wait for one child."""

OnAnswer = Callable[[dict[str, Any] | None], None]
"""Called with the answer to a question, or with None if the child gives no answer."""


def ready() -> dict[str, Any]:
    """The report of a child that serves."""
    return {"report": "ready"}


def failure(error: UnpdError) -> dict[str, Any]:
    """The report of a child that cannot serve because of ``error``."""
    code, reason = int(error.exit_code), str(error)[:MAX_REASON_CHARACTERS]
    return {"report": "failed", "code": code, "reason": reason}


def event_of(birth: int, report: Mapping[str, Any]) -> ev.ChildReady | ev.ChildFailed:
    """The event that a report becomes. ChannelError if the message is no report."""
    match report:
        case {"report": "ready"}:
            return ev.ChildReady(birth)
        case {"report": "failed", "code": int(code), "reason": str(reason)}:
            known = code in tuple(ExitCode)
            return ev.ChildFailed(birth, reason, ExitCode(code) if known else ExitCode.FAILED)
    raise ChannelError("the first message is no report")


def watch(runtime: Runtime, birth: int) -> None:
    """Have the loop read a new child's channel whenever it has messages."""
    channel = runtime.processes[birth].channel
    runtime.loop.watch(channel.fileno(), select.EPOLLIN, lambda _: read(runtime, birth))


def ask(runtime: Runtime, birth: int, question: Mapping[str, Any], on_answer: OnAnswer) -> None:
    """Ask a child a question. Call ``on_answer`` with the answer when it comes.

    A child gets one question at a time; up to MAX_QUESTIONS wait. Call ``on_answer``
    with None at once if the child answers no questions, has not reported, or is gone,
    or if too many wait; with None later if the channel ends before the answer.
    """
    process = runtime.processes.get(birth)
    if (
        process is None
        or not process.reported
        or process.channel.ended
        or not policy_of(process.child).serves
        or len(process.unanswered) >= MAX_QUESTIONS
    ):
        on_answer(None)
        return
    process.unanswered.append((question, on_answer))
    if len(process.unanswered) == 1:
        _send_question(process)
    _watch_or_stop(runtime, birth, process)


def read(runtime: Runtime, birth: int) -> None:
    """Take the messages of a child, and send what waits for room in the channel."""
    process = runtime.processes.get(birth)
    if process is None or process.channel.ended:
        return
    try:
        for message in process.channel.receive():
            _take(runtime, birth, process, message)
        process.channel.flush()
    except ChannelError as error:
        runtime.log.event("channel.broken", birth=birth, pid=process.pid, reason=str(error))
        process.channel.ended = True
    _watch_or_stop(runtime, birth, process)


def read_and_close(runtime: Runtime, birth: int) -> None:
    """Read the last messages of a dead child, and close its channel."""
    process = runtime.processes[birth]
    read(runtime, birth)
    _stop_watching(runtime, process)
    process.channel.ended = True
    process.channel.close()


def _take(runtime: Runtime, birth: int, process: ChildProcess, message: dict[str, Any]) -> None:
    if not process.reported:
        process.reported = True
        runtime.events.append(event_of(birth, message))
        return
    if not process.unanswered:
        raise ChannelError("an answer came without a question")
    _, on_answer = process.unanswered.popleft()
    on_answer(message)
    if process.unanswered:
        _send_question(process)


def _send_question(process: ChildProcess) -> None:
    """Send the first question that waits. The channel has room: the one before is
    answered.
    """
    question, _ = process.unanswered[0]
    process.channel.send(question)


def _watch_or_stop(runtime: Runtime, birth: int, process: ChildProcess) -> None:
    """Watch the channel for messages, and for room while a question waits for room;
    stop watching it once it has ended.
    """
    if process.channel.ended:
        _stop_watching(runtime, process)
        return
    mask = select.EPOLLIN | (select.EPOLLOUT if process.channel.pending else 0)
    runtime.loop.watch(process.channel.fileno(), mask, lambda _: read(runtime, birth))


def _stop_watching(runtime: Runtime, process: ChildProcess) -> None:
    """Stop watching a channel that has ended; answer the open questions with None."""
    runtime.loop.forget(process.channel.fileno())
    while process.unanswered:
        _, on_answer = process.unanswered.popleft()
        on_answer(None)
