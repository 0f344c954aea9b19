"""Memory as PSS: the private pages of a process, and its share of those that it shares.

The harness runs the same interpreter as unpd and takes a share of each page of its text, which would make unpd look smaller than it is where the harness does not run.
:func:`pss_without_us` counts as if the harness were not there, from /proc/PID/pagemap and /proc/kpagecount (Documentation/admin-guide/mm/pagemap.rst), which only root may read.
"""

import array
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ENTRY_BYTES = 8
"""Of a page in pagemap and in kpagecount."""
FRAME_BITS = (1 << 55) - 1
PRESENT_BIT = 63
TOLERANCE = 0.02
KPAGECOUNT = Path("/proc/kpagecount")


def pss_bytes(pid: int) -> int:
    """PSS of one process as the kernel counts it (smaps_rollup)."""
    for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no Pss of {pid}")


def counts_pages() -> bool:
    """Whether pages can be counted one by one: the kernel shows their numbers and counts to root alone."""
    return os.geteuid() == 0 and os.access(KPAGECOUNT, os.R_OK)


def pss_without_us(pids: Iterable[int]) -> dict[int, float]:
    """PSS of each process as if this one were not there; with our share missing where pages cannot be counted. RuntimeError if the count and the kernel disagree."""
    if not counts_pages():
        return {pid: float(pss_bytes(pid)) for pid in pids}
    frames = {pid: _frames(pid) for pid in pids}
    mapped = _times_mapped({frame for found in frames.values() for frame in found})
    for pid, found in frames.items():
        _check(pid, shared_bytes(found, mapped, Counter()))
    ours = Counter(_frames(os.getpid()))
    return {pid: shared_bytes(found, mapped, ours) for pid, found in frames.items()}


def shared_bytes(frames: Iterable[int], mapped: Counter[int], without: Counter[int]) -> float:
    """The share of a process in its pages. ``mapped``: how often each is mapped, ``without``: by somebody who is not to count. A page that nobody maps is the kernel's zero page."""
    return sum(PAGE_BYTES / max(1, mapped[frame] - without[frame]) for frame in frames if mapped[frame])


def _check(pid: int, counted: float) -> None:
    said = pss_bytes(pid)
    if abs(counted - said) > TOLERANCE * said:
        raise RuntimeError(f"the pages of process {pid} come to {counted:.0f} bytes, its smaps_rollup says {said}")


def _frames(pid: int) -> list[int]:
    """The numbers of the pages that a process has in memory, each as often as it maps it."""
    with Path("/proc", str(pid), "pagemap").open("rb", buffering=0) as pagemap:
        entries = [entry for begin, end in _areas(pid) for entry in _entries(pagemap.fileno(), begin // PAGE_BYTES, (end - begin) // PAGE_BYTES)]
    return [entry & FRAME_BITS for entry in entries if entry >> PRESENT_BIT]


def _areas(pid: int) -> Iterator[tuple[int, int]]:
    """The mappings of a process, without the one that lies in the kernel's half (vsyscall)."""
    for line in Path("/proc", str(pid), "maps").read_text().splitlines():
        begin, end = (int(word, 16) for word in line.split(maxsplit=1)[0].split("-"))
        if begin < 1 << 63:
            yield begin, end


def _entries(fd: int, first: int, count: int) -> "array.array[int]":
    return array.array("Q", os.pread(fd, count * ENTRY_BYTES, first * ENTRY_BYTES))


def _times_mapped(frames: Iterable[int]) -> Counter[int]:
    with KPAGECOUNT.open("rb", buffering=0) as counts:
        return Counter({frame: _entries(counts.fileno(), frame, 1)[0] for frame in frames})
