"""The look-up of a name, and its failures."""

import socket
import threading

import pytest

from unpd.cli.client.connect import Candidate, look_up
from unpd.cli.client.failures import ClientFailure
from unpd.names import ClientExit

FOUND = (Candidate(socket.AF_INET, ("192.0.2.1", 7)),)


@pytest.mark.parametrize("timeout_s", [None, 30.0])
def test_an_answer_of_the_resolver_is_taken(timeout_s: float | None) -> None:
    """The addresses are those of the resolver, with or without a timeout."""
    assert look_up(lambda: FOUND, timeout_s) == FOUND


def test_a_resolver_that_is_silent_is_given_up() -> None:
    """A look-up that cannot be interrupted holds the client no longer than its timeout,
    and the message names the resolver.
    """
    answered = threading.Event()

    def answer_too_late() -> tuple[Candidate, ...]:
        answered.wait()
        return FOUND

    with pytest.raises(ClientFailure) as failed:
        look_up(answer_too_late, 0.01)
    answered.set()
    assert (failed.value.exit_code, failed.value.detail) == (
        ClientExit.NAME_NOT_FOUND,
        "the resolver did not answer in time",
    )


@pytest.mark.parametrize(
    ("number", "detail"),
    [
        (socket.EAI_NONAME, "Name or service not known"),
        (socket.EAI_AGAIN, "the resolver did not answer: Name or service not known"),
    ],
)
def test_an_unknown_name_differs_from_a_resolver_that_did_not_answer(
    number: int, detail: str
) -> None:
    """Both end with the same code; only EAI_AGAIN (getaddrinfo(3)) says that the name
    may exist.
    """

    def fail() -> tuple[Candidate, ...]:
        raise socket.gaierror(number, "Name or service not known")

    with pytest.raises(ClientFailure) as failed:
        look_up(fail, None)
    assert (failed.value.exit_code, failed.value.detail) == (ClientExit.NAME_NOT_FOUND, detail)
