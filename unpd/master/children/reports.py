"""The messages between the master and a child: first the child's report, then questions
and their answers.

Owns the format of a report and the order of the messages. A child sends one report,
``{"report": "ready"}`` or ``{"report": "failed", "code": 77, "reason": "..."}``. After
that it sends one answer for each question, in the order of the questions. A child that
a signal has ended says so last, ``{"report": "left", "by": "SIGQUIT"}``. At any time
between, ``{"report": "sensed", "service": "trap", "peer": "192.0.2.1"}`` says that a
client has connected to a sensor; ``"lost": 3`` there says how many such reports found
no room before it. Any other message breaks the protocol: the master
stops reading the channel, and the child goes on without it.

The child makes the other reports with the functions of the same names. In the
master, :mod:`unpd.master.perform` calls :func:`watch` after a fork, it and
:mod:`unpd.master.rotation` ask, and :mod:`unpd.master.children.reap` calls
:func:`read_and_close` after a death. Calls :mod:`unpd.channel`. If a channel breaks,
:func:`read` logs the reason.
"""

import select
from collections.abc import Mapping
from typing import Any

from unpd.channel import ChannelError, ChannelFullError
from unpd.core import events as ev
from unpd.errors import UnpdError
from unpd.master import sensing
from unpd.master.runtime import ChildProcess, Question, Runtime
from unpd.names import ChildOrder, ExitCode

MAX_REASON_CHARACTERS = 4000
"""The longest reason that a report carries: the channel limits its messages. A usual
reason has one or two sentences.
"""

MAX_QUESTIONS = 16
"""How many questions may wait for one child."""


def ready() -> dict[str, Any]:
    """The report of a child that serves."""
    return {"report": "ready"}


def failure(error: UnpdError) -> dict[str, Any]:
    """The report of a child that cannot serve because of ``error``."""
    code, reason = int(error.exit_code), str(error)[:MAX_REASON_CHARACTERS]
    return {"report": "failed", "code": code, "reason": reason}


def left(order: ChildOrder) -> dict[str, Any]:
    """The last report of a child that ``order`` has ended."""
    return {"report": "left", "by": order.value}


def event_of(birth: int, report: Mapping[str, Any]) -> ev.ChildReady | ev.ChildFailed:
    """The event that a report becomes. ChannelError if the message is no report."""
    match report:
        case {"report": "ready"}:
            return ev.ChildReady(birth)
        case {"report": "failed", "code": int(code), "reason": str(reason)}:
            known = code in tuple(ExitCode)
            code = ExitCode(code) if known else ExitCode.FAILED
            return ev.ChildFailed(birth, shown(reason), code)
    raise ChannelError("the first message is no report")


def shown(text: str) -> str:
    """The text of a child as one line of at most MAX_REASON_CHARACTERS: an intruder in
    the child must not add lines to what the master shows.
    """
    cut = text[:MAX_REASON_CHARACTERS]
    if cut.isprintable():
        return cut
    return "".join(character if character.isprintable() else "?" for character in cut)


def watch(runtime: Runtime, birth: int) -> None:
    """Have the loop read a new child's channel whenever it has messages."""
    channel = runtime.processes[birth].channel
    runtime.loop.watch(channel.fileno(), select.EPOLLIN, lambda _: read(runtime, birth))


def ask(runtime: Runtime, birth: int, question: Question) -> None:
    """Ask a child a question. Its ``on_answer`` gets the answer when it comes.

    A child gets one question at a time; up to MAX_QUESTIONS wait. A child that has not
    reported yet reads its first question after its report. ``on_answer`` gets None at
    once if the child is gone or too many questions wait, and None later if the channel
    ends before the answer.
    """
    process = runtime.processes.get(birth)
    if process is None or process.channel.ended or len(process.unanswered) >= MAX_QUESTIONS:
        question.close()
        question.on_answer(None)
        return
    process.unanswered.append(question)
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
    match message:
        case {"report": "sensed", "service": str(service), "peer": str(peer)}:
            sensing.take(runtime, service, peer, message.get("lost", 0))
            return
    if "report" in message and not process.left_by:
        process.left_by = _signal_of(message)
        return
    if not process.unanswered:
        raise ChannelError("an answer came without a question")
    question = process.unanswered.popleft()
    _send_question(process)
    question.on_answer(message)


def _signal_of(report: Mapping[str, Any]) -> str:
    """The signal of the last report. ChannelError if the message is no such report."""
    match report:
        case {"report": "left", "by": str(by)} if by in tuple(ChildOrder):
            return by
    raise ChannelError("the last message is no report")


def _send_question(process: ChildProcess) -> None:
    """Send the first question that waits, if one does. The channel has room for a
    message without a descriptor, because the question before is answered. A question
    with one that finds no room has no answer.
    """
    while process.unanswered:
        question = process.unanswered[0]
        try:
            process.channel.send(question.message, question.descriptor)
        except ChannelFullError:
            process.unanswered.popleft()
            question.close()
            question.on_answer(None)
        else:
            question.close()
            return


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
        question = process.unanswered.popleft()
        question.close()
        question.on_answer(None)
