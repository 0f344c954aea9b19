"""Memory that the master shares with its children, and that it alone can write.

The master's own mapping is not inherited (MADV_DONTFORK in madvise(2)), the children
get one for reading, and F_SEAL_FUTURE_WRITE (fcntl(2), Linux 5.1) keeps anybody from
making another one. So a child that was taken over cannot change for the others what
operators have ordered.

Called by :mod:`unpd.board.denied`, :mod:`unpd.board.halted` and
:mod:`unpd.board.history`. Errors: OSError if the kernel refuses the memory.
"""

import fcntl
import mmap
import os

from unpd.board.layout import WORD_BYTES

_F_SEAL_FUTURE_WRITE = 0x0010  # linux/fcntl.h; the module fcntl lacks it in Python 3.11
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL | _F_SEAL_FUTURE_WRITE


def make_sealed(name: str, size: int) -> tuple[memoryview, memoryview]:
    """Make memory of ``size`` words of 64 bits, all 0; return it for the master, and
    for reading. ``name``: as /proc/PID/maps shows it. OSError.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size * WORD_BYTES)
        own = mmap.mmap(fd, size * WORD_BYTES)
        own.madvise(mmap.MADV_DONTFORK)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        shown = mmap.mmap(fd, size * WORD_BYTES, prot=mmap.PROT_READ)
    finally:
        os.close(fd)
    return memoryview(own).cast("Q"), memoryview(shown).cast("Q")
