"""Runs a command: parses, imports the command, calls it, and turns its end into an exit
code.

Called by main; calls one module of ``unpd.cli`` for each command. Errors: an UnpdError
becomes its sentence on standard error and its exit code; a fault of our own ends with a
trace. A command prints through :mod:`unpd.cli.output`, which never fails.

A command is imported when it is asked for, because imports are most of what a short
command costs: the verbs and the clients need no pydantic.
"""

import argparse
from collections.abc import Callable, Sequence

from unpd.cli import client
from unpd.cli.output import complain
from unpd.cli.parser import parse
from unpd.control.verbs import VERBS
from unpd.errors import UnpdError

INTERRUPTED = 130
"""The exit code that a shell expects after Ctrl-C: 128 and the number of SIGINT."""


def run_command(words: Sequence[str]) -> int:
    """Run the command that ``words`` name; return its exit code."""
    args = parse(words)
    if args.command == "client":
        return client.run(args)
    try:
        return _command(args.command)(args)
    except UnpdError as error:
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """Import the command of this name."""
    if name in VERBS:
        from unpd.cli import verbs  # noqa: PLC0415 - see above

        return verbs.COMMANDS[name]
    if name == "start":
        from unpd.cli import start  # noqa: PLC0415 - see above

        return start.start
    if name == "services":
        from unpd.cli import services  # noqa: PLC0415 - see above

        return services.services
    if name == "install-units":
        from unpd.cli.install_units import install_units  # noqa: PLC0415 - see above

        return install_units
    if name == "doctor":
        from unpd.cli.doctor.command import doctor  # noqa: PLC0415 - see above

        return doctor
    if name == "top":
        from unpd.cli.top.command import top  # noqa: PLC0415 - see above

        return top
    if name == "run":
        _prepare_run()
    from unpd.cli import commands  # noqa: PLC0415 - see above

    return {"run": commands.run, "check": commands.check}[name]


def _prepare_run() -> None:
    from unpd.kernel import signals  # noqa: PLC0415 - before the imports that take long

    # From here on the kernel keeps a signal for the loop. Without this, SIGINT would
    # print a trace, and process 1 would lose every signal.
    signals.block_all()
