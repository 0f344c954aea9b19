"""Measures memory as PSS: the private pages of a process and its share of shared pages.

The harness runs the same interpreter as unpd and takes a share of each page of its
text, and so does every other Python program on the machine. With them unpd looks
smaller than it is alone (39.8 MB instead of 44.6 beside the processes of a test run).
:func:`pss_alone` counts as if none of them existed, from /proc/PID/pagemap and
/proc/kpagecount (Documentation/admin-guide/mm/pagemap.rst), which only root can read.
"""

import array
import contextlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ENTRY_BYTES = 8
"""The size of a page's entry in pagemap and in kpagecount."""
FRAME_BITS = (1 << 55) - 1
PRESENT_BIT = 63
TOLERANCE = 0.02
TRIES = 3
KPAGECOUNT = Path("/proc/kpagecount")


def pss_bytes(pid: int) -> int:
    """Return the PSS of one process as the kernel counts it (smaps_rollup)."""
    for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no Pss of {pid}")


def counts_pages() -> bool:
    """Whether pages can be counted one by one. The kernel shows their numbers and
    counts to root only.
    """
    return os.geteuid() == 0 and os.access(KPAGECOUNT, os.R_OK)


def pss_alone(pids: Collection[int]) -> dict[int, float]:
    """Return the PSS of each process as if no others ran our interpreter, or the
    kernel's PSS where pages cannot be counted. RuntimeError if our count and the
    kernel's disagree.

    Processes that begin or end meanwhile change the shares between the two counts, so a
    disagreement is checked once more.
    """
    if not counts_pages():
        return {pid: float(pss_bytes(pid)) for pid in pids}
    wrong = ""
    for _ in range(TRIES):
        frames = {pid: _frames(pid) for pid in pids}
        mapped = _times_mapped({frame for found in frames.values() for frame in found})
        if not (wrong := _disagreement(frames, mapped)):
            others = Counter(
                frame for pid in _same_program() if pid not in frames for frame in _frames(pid)
            )
            return {pid: shared_bytes(found, mapped, others) for pid, found in frames.items()}
    raise RuntimeError(wrong)


def _disagreement(frames: Mapping[int, list[int]], mapped: Counter[int]) -> str:
    """Describe where our count of all pages differs from the kernel's."""
    for pid, found in frames.items():
        counted, said = shared_bytes(found, mapped, Counter()), pss_bytes(pid)
        if abs(counted - said) > TOLERANCE * said:
            return (
                f"the pages of process {pid} come to {counted:.0f} bytes, its smaps_rollup says"
                f" {said}"
            )
    return ""


def _same_program() -> Iterator[int]:
    """Return the processes that run our interpreter, including this one."""
    ours = os.readlink("/proc/self/exe")
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # gone, or a kernel thread, which has no program
            if os.readlink(f"/proc/{entry}/exe") == ours:
                yield int(entry)


def shared_bytes(frames: Iterable[int], mapped: Counter[int], without: Counter[int]) -> float:
    """Return the bytes of a process's share in its pages. ``mapped`` is how often each
    is mapped, ``without`` how often by excluded processes. A page that no process maps
    is the kernel's zero page.
    """
    return sum(
        PAGE_BYTES / max(1, mapped[frame] - without[frame]) for frame in frames if mapped[frame]
    )


def _frames(pid: int) -> list[int]:
    """Return the numbers of the pages that a process has in memory, each as often as it
    maps it; none if it is gone.
    """
    try:
        return _frames_there(pid)
    except (FileNotFoundError, ProcessLookupError):
        return []


def _frames_there(pid: int) -> list[int]:
    with Path("/proc", str(pid), "pagemap").open("rb", buffering=0) as pagemap:
        entries = [
            entry
            for begin, end in _areas(pid)
            for entry in _entries(
                pagemap.fileno(), begin // PAGE_BYTES, (end - begin) // PAGE_BYTES
            )
        ]
    return [entry & FRAME_BITS for entry in entries if entry >> PRESENT_BIT]


def _areas(pid: int) -> Iterator[tuple[int, int]]:
    """Return the mappings of a process, without the one in the kernel's half
    (vsyscall).
    """
    for line in Path("/proc", str(pid), "maps").read_text().splitlines():
        begin, end = (int(word, 16) for word in line.split(maxsplit=1)[0].split("-"))
        if begin < 1 << 63:
            yield begin, end


def _entries(fd: int, first: int, count: int) -> "array.array[int]":
    return array.array("Q", os.pread(fd, count * ENTRY_BYTES, first * ENTRY_BYTES))


def _times_mapped(frames: Iterable[int]) -> Counter[int]:
    with KPAGECOUNT.open("rb", buffering=0) as counts:
        return Counter({frame: _entries(counts.fileno(), frame, 1)[0] for frame in frames})
