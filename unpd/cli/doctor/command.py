"""The command ``unpd doctor``.

Called by dispatch. Errors: UnpdError, if a configuration file is named that there is
not, or where its control socket is not known.
"""

import argparse
import json

from unpd.cli.doctor.gather import gather
from unpd.cli.doctor.report import as_fields, as_text, examine
from unpd.cli.output import show
from unpd.names import ExitCode


def doctor(args: argparse.Namespace) -> int:
    """``unpd doctor``: print the report; end with 4 if something has to be mended."""
    report = examine(gather(args))
    shown = show(json.dumps(as_fields(report), indent=2) if args.json else as_text(report))
    if not shown:
        return ExitCode.FAILED
    return ExitCode.DONE if report.is_well else ExitCode.DEGRADED
