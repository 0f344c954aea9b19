"""The part of ``unpd try`` that needs no daemon: starts a program as a launcher would,
as far as this process may, and says what differs.

Called by :mod:`unpd.cli.trying`. Calls the configuration and
:mod:`unpd.dispatcher.launch`. Errors: UnpdError.
"""

import mmap
import os
import signal
import time
from pathlib import Path
from typing import Any

from unpd.board import layout
from unpd.board.layout import Session
from unpd.cli.commands import load_path
from unpd.cli.output import complain
from unpd.config.wording import file_shown
from unpd.control.explained import no_service
from unpd.dispatcher.launch import STEPS, Launch, Start, begin, prepare
from unpd.dispatcher.roll import ProcessEnd
from unpd.dispatcher.trials import end_told
from unpd.errors import WrongUsageError, quoted
from unpd.kernel import processes, signals
from unpd.kernel.spawning import Spawner
from unpd.master import boot
from unpd.services.program import ProgramOptions, why_not_tried

DIFFERS = (
    "without the daemon, the program has neither the sandbox nor the limits of its unit, and {} of"
    " this command"
)
OF_COMMAND = "the umask, the nice value and the variables of pass_environment"


def try_program(path: Path | None, name: str) -> dict[str, Any]:
    """Start the program of a service and wait for its end; return how it ended."""
    loaded = load_path(path)
    service = loaded.config.services.get(name)
    if service is None:
        whose = "the built-in default" if path is None else file_shown(path)
        raise WrongUsageError(no_service(name, loaded.config.services, whose))
    reason = why_not_tried(service.options)
    if reason or not isinstance(service.options, ProgramOptions):
        raise WrongUsageError(f"{quoted(name)} {reason}")
    identity = boot.identity_for(loaded)
    of_command = OF_COMMAND if identity else f"the user, the groups, {OF_COMMAND}"
    complain(DIFFERS.format(of_command), name="warning: ")
    return _run(prepare(service.options, name, identity, stderr_fd=None))


def _run(launch: Launch) -> dict[str, Any]:
    entry = memoryview(mmap.mmap(-1, Session.size * layout.WORD_BYTES)).cast("Q")
    began_at = time.monotonic()
    program = Start(
        launch=launch,
        variables=launch.environment,
        # Copies, with greater numbers than those that the program gets.
        fds=(os.dup(0), os.dup(1), os.dup(2)),
        entry=entry,
        launcher_pid=os.getpid(),
        changed=signals.changed(),
        spawner=Spawner(),
    )
    pid = begin(program, STEPS)
    try:
        _, status = os.waitpid(pid, 0)
    except KeyboardInterrupt:
        processes.signal_group(pid, signal.SIGTERM)
        raise
    end = ProcessEnd(processes.decode_wait_status(status), 0, 0)
    return end_told(end, entry, launch, time.monotonic() - began_at)
