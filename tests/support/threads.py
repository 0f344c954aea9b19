"""Runs work in a thread beside the block of a test or a measurement."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def beside(work: Callable[[], object], stop: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Run ``work`` in a thread during the block. At the end of the block, however that
    comes, ``stop`` has it end, and it is waited for. Without ``stop`` it ends by
    itself.
    """
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join()
