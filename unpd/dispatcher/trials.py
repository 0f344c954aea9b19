"""Trials: programs that ``unpd try`` starts, with the descriptors of its terminal.

The master passes one end of a socket pair, whose other end the command has. Through it
come the three descriptors, and as the answer one line about the end of the program. If
the command goes, its program is ended as if a client had gone. A trial has no place in
the table of sessions, and no metric counts it.

Owns the sockets. Called by :mod:`unpd.dispatcher.programs`. Raises nothing.

Known gap: a launcher that dies tells the command nothing but the end of the socket.
"""

import contextlib
import math
import mmap
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unpd.board import layout
from unpd.board.layout import Session
from unpd.dispatcher.launch import STEPS, Launch, Start, begin
from unpd.dispatcher.program_roll import failed_step
from unpd.dispatcher.refusal import Refusal, refusal_of
from unpd.dispatcher.roll import ProcessEnd
from unpd.errors import quoted
from unpd.json_lines import encode
from unpd.kernel import processes
from unpd.kernel.spawning import Spawner
from unpd.loop import Loop
from unpd.worker.event.deadlines import Wheel

STANDARD = 3
"""How many descriptors come: standard input, output and error."""


@dataclass(slots=True, eq=False)
class Trial:
    """One program that is tried. ``entry``: where its start tells why it failed."""

    pid: int
    sock: socket.socket
    entry: memoryview
    began_at: float
    launch: Launch
    kill_at: float = math.inf
    wheel_slot: set[Any] | None = None


class Trials:
    """The trials of one launcher."""

    def __init__(self, spawner: Spawner, clock: Callable[[], float]) -> None:
        self._changed: Sequence[int] = ()
        self._spawner = spawner
        self._clock = clock
        self._loop = Loop()
        self._wheel: Wheel[Trial] = Wheel()
        self._all: dict[int, Trial] = {}
        self._ending = False

    def __len__(self) -> int:
        return len(self._all)

    def watch(self, loop: Loop, changed: Sequence[int]) -> None:
        """Watch the commands in this loop. ``changed``: the signals that this process
        ignores or handles.
        """
        self._loop = loop
        self._changed = changed

    @property
    def due_at(self) -> float:
        """When to call :meth:`look` next."""
        return self._wheel.next_at

    def begin(self, launch: Launch, fd: int) -> dict[str, Any]:
        """Start a program for the command at the other end of ``fd``, which belongs to
        the trial from now on. Return the answer to the master.
        """
        try:
            sock = socket.socket(fileno=fd)
        except OSError as error:
            os.close(fd)
            return {"error": f"what came is no socket: {error.strerror}"}
        if self._ending:
            sock.close()
            return {"error": "the daemon stops"}
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        try:
            _, fds, _, _ = socket.recv_fds(sock, 1, STANDARD, flags)
            pid, entry = self._start(launch, fds)
        except (OSError, ValueError) as error:
            sock.close()
            return {"error": f"cannot start it: {error}"}
        trial = Trial(pid, sock, entry, self._clock(), launch)
        self._all[pid] = trial
        self._loop.watch(fd, select.EPOLLRDHUP, lambda _: self._leave(trial))
        return {}

    def _start(self, launch: Launch, fds: Sequence[int]) -> tuple[int, memoryview]:
        entry = memoryview(mmap.mmap(-1, Session.size * layout.WORD_BYTES)).cast("Q")
        try:
            standard_input, standard_output, standard_error = fds
            program = Start(
                launch=launch,
                variables=launch.environment,
                fds=(standard_input, standard_output, standard_error),
                entry=entry,
                launcher_pid=os.getpid(),
                changed=self._changed,
                spawner=self._spawner,
            )
            return begin(program, STEPS), entry
        finally:
            for each in fds:
                os.close(each)

    def _leave(self, trial: Trial) -> None:
        """The command has gone: end its program."""
        self._loop.forget(trial.sock.fileno())
        self._terminate(trial)

    def _terminate(self, trial: Trial) -> None:
        _signal(trial, signal.SIGTERM)
        trial.kill_at = min(trial.kill_at, self._clock() + trial.launch.kill_after_s)
        self._wheel.put(trial, trial.kill_at)

    def look(self) -> None:
        """Kill the programs that did not end in time."""
        for trial in self._wheel.due(self._clock()):
            _signal(trial, signal.SIGKILL)

    def end_all(self, patience_s: float) -> None:
        """End all programs, because the daemon stops: in ``patience_s`` at the
        latest.
        """
        self._ending = True
        for trial in self._all.values():
            trial.kill_at = min(trial.kill_at, self._clock() + patience_s)
            self._terminate(trial)

    def ended(self, pid: int, end: ProcessEnd) -> None:
        """Tell the command how its program has ended, if ``pid`` is one."""
        trial = self._all.pop(pid, None)
        if trial is None:
            return
        self._wheel.remove(trial)
        self._loop.forget(trial.sock.fileno())
        line = encode(end_told(end, trial.entry, trial.launch, self._clock() - trial.began_at))
        with contextlib.suppress(OSError):  # the command has gone
            trial.sock.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        trial.sock.close()


def _signal(trial: Trial, signum: int) -> None:
    if processes.is_our_child(trial.pid):
        with contextlib.suppress(PermissionError):  # it became another user
            processes.signal_group(trial.pid, signum)


def end_told(
    end: ProcessEnd, entry: memoryview, launch: Launch, duration_s: float
) -> dict[str, Any]:
    """How a program ended, as the command is told. ``step``: the one of its start that
    failed for ``reason``, with the file and the user if it is about one; else None.
    """
    failed = failed_step(entry)
    refusal = refusal_of(failed, launch) if failed else None
    return {
        "ended": str(end.report),
        "ok": failed is None and end.report.code == 0,
        "duration_s": round(duration_s, 3),
        "step": _step_told(refusal) if refusal else None,
        "reason": refusal.reason if refusal else None,
    }


def _step_told(refusal: Refusal) -> str:
    """The step, and what was refused to whom. :func:`quoted` shortens a long path,
    because the answer is one line.
    """
    if not refusal.path:
        return str(refusal.step)
    return f"{refusal.step} {quoted(refusal.path)}, as the user {refusal.user}"
