"""Ctrl-C as a descriptor: the first one ends a wait, so that a measurement can print
its summary. The second one ends the client at once, even where it hangs in a write.

Called by ``measuring`` around a measurement. Calls :mod:`unpd.kernel.signals` for the
wake-up pipe. Where SIGINT is ignored, as in a background job of a shell script, it
stays ignored.
"""

import os
import signal
from types import FrameType
from typing import Self

from unpd.kernel import signals


class Interrupts:
    """The watch for SIGINT, within its ``with`` block.

    ``fd``: becomes readable at the first interrupt. ``came``: whether there was one.
    """

    def __init__(self) -> None:
        self.fd = -1
        self.came = False

    def __enter__(self) -> Self:
        self.fd, self._writer = signals.open_wakeup_pipe()
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.set_wakeup_fd(-1)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(self.fd)
        os.close(self._writer)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
