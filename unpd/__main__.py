"""``python -m unpd`` is ``unpd``."""

import sys

from unpd.cli.main import main

sys.exit(main())
