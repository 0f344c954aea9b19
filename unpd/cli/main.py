"""The entry of the command line: the version, or a command.

Called by the program ``unpd`` and by ``python -m unpd``; calls
:mod:`unpd.cli.dispatch`.
"""

import sys
from collections.abc import Sequence

from unpd import __version__
from unpd.cli import output


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``unpd`` with these arguments (None: those of sys.argv); return the exit
    code.
    """
    output.prepare()
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        # The imports below are half of the time that this answer would take.
        return 0 if output.show(f"unpd {__version__}") else 1
    from unpd.cli.dispatch import run_command  # noqa: PLC0415 - see above

    return run_command(words)


if __name__ == "__main__":
    sys.exit(main())
