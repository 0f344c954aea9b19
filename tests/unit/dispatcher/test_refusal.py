"""What a refused start is explained by, from the file that the program should be."""

import errno
import os
from pathlib import Path

import pytest

from unpd.dispatcher.launch import Launch
from unpd.dispatcher.refusal import refusal_of
from unpd.names import StartStep

MISSING = "No such file or directory"


def reason_for(path: Path) -> str:
    """Why the program did not start, if the kernel missed something."""
    launch = Launch(
        argv=(os.fsencode(path),),
        environment={},
        directory=os.fsencode(path.parent),
        umask=None,
        nice=0,
        limits=(),
        identity=None,
        stderr_fd=None,
        kill_after_s=1.0,
    )
    refusal = refusal_of((StartStep.PROGRAM, errno.ENOENT), launch)
    assert refusal.path == str(path)
    return refusal.reason


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"\x7fELF", ": its loader (ld.so), or what runs its architecture, is missing"),
        (b"#!/no/such -x\n", ': the interpreter "/no/such" is missing'),
        (b"#!/bin/sh\n", ""),
        (b"", ""),
    ],
)
def test_the_first_line_tells_what_is_missing(tmp_path: Path, first: bytes, more: str) -> None:
    """An interpreter that exists now may have been missing at the start."""
    program = tmp_path / "program"
    program.write_bytes(first)
    assert reason_for(program) == MISSING + more


def test_what_cannot_be_read_is_not_explained(tmp_path: Path) -> None:
    """Neither a missing file, nor a FIFO whose writer has written nothing: nobody waits
    for it.
    """
    assert reason_for(tmp_path / "none") == MISSING
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_RDWR)
    try:
        assert reason_for(fifo) == MISSING
    finally:
        os.close(fd)
