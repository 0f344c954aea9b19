"""The failure for each error, and its message for the user."""

import errno
import os

import pytest

from unpd.cli.client.failures import ClientFailure, failure_of
from unpd.names import ClientExit


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [
        (errno.ECONNREFUSED, ClientExit.REFUSED),
        (errno.ETIMEDOUT, ClientExit.TIMED_OUT),
        (errno.ENETUNREACH, ClientExit.UNREACHABLE),
        (errno.EHOSTUNREACH, ClientExit.UNREACHABLE),
        (errno.EHOSTDOWN, ClientExit.UNREACHABLE),
        (errno.ENOENT, ClientExit.UNREACHABLE),
        (errno.EACCES, ClientExit.UNREACHABLE),
        (errno.ECONNRESET, ClientExit.RESET),
        (errno.EPIPE, ClientExit.CLOSED_EARLY),
        (errno.ENOBUFS, ClientExit.FAILED),
    ],
)
def test_each_error_has_its_own_exit_code(number: int, exit_code: ClientExit) -> None:
    """The error of the kernel decides the exit code; only an error that the table lacks
    is the general failure.
    """
    assert failure_of(OSError(number, os.strerror(number)), "").exit_code is exit_code


def test_an_unforeseen_error_has_the_kernels_words() -> None:
    """The message of an error that the table lacks has the text of the kernel."""
    assert (
        failure_of(OSError(errno.ENOBUFS, "No buffer space available"), "").cause
        == "failed: No buffer space available"
    )


def test_the_sentence_names_the_server_the_failure_the_time_and_the_detail() -> None:
    """One sentence names the server, the failure, the time it took, and the detail."""
    failure = ClientFailure(ClientExit.TIMED_OUT, "timed out", "no answer within 3 s")
    assert (
        failure.sentence("echo at h port 7", 3.04)
        == "echo at h port 7: timed out after 3.0 s (no answer within 3 s)"
    )


def test_a_sentence_without_detail_has_no_empty_brackets() -> None:
    """Without a detail the sentence ends with the time."""
    assert (
        ClientFailure(ClientExit.RESET, "reset").sentence("echo at h port 7", 0.0)
        == "echo at h port 7: reset after 0.0 s"
    )
