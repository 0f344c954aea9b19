"""unpd with the plain version of datagrams, a datagram a call: ``python plain_unpd.py
run --config FILE``.
"""

import functools
import sys

from unpd.cli.main import main
from unpd.worker import main as worker
from unpd.worker.event.engine import EngineSetup

if __name__ == "__main__":
    worker.EngineSetup = functools.partial(EngineSetup, batches=False)  # type: ignore[assignment, attr-defined]
    sys.exit(main())
