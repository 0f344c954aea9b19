"""The time client (RFC 868): prints the server's time and how far it is from the local
clock.

Called by ``command`` with a connected stream socket, or with the answer of a datagram.
Errors: ClientFailure, OutputClosed.

The four bytes count seconds from 1900 on and begin again at 0 on 2036-02-07 at 06:28:16
UTC, so they name one second in each era of 136 years. The client takes the era in which
the time is nearest to the local clock. That is right while the local clock is wrong by
less than 68 years, also after 2036.

Known gap: a clock that starts at 1970 and asks after 2038 gets an era too early.
"""

import socket
import time
from dataclasses import dataclass

from unpd.cli.client import printing, streams
from unpd.cli.client.failures import ClientFailure, not_a_server
from unpd.names import ClientExit

ANSWER_BYTES = 4
EPOCH_S = 2_208_988_800
"""The seconds from 1900 to 1970, as RFC 868 has it."""

ERA_S = 1 << 32


@dataclass(frozen=True, slots=True)
class Asked:
    """When the server was asked, and when its answer came: the local wall clock in
    seconds since 1970. The server wrote its time in between.
    """

    at_s: float
    answered_at_s: float


def seconds_of(answer: bytes, local_s: float) -> int:
    """Return the seconds since 1970 that the answer means: those of all eras that are
    nearest to ``local_s``. ValueError unless the answer has four bytes.
    """
    if len(answer) != ANSWER_BYTES:
        raise ValueError(f"it sent {len(answer)} bytes in place of {ANSWER_BYTES}")
    local = int(local_s // 1)
    ahead_s = (int.from_bytes(answer, "big") - EPOCH_S - local) % ERA_S
    return local + (ahead_s if ahead_s < ERA_S // 2 else ahead_s - ERA_S)


def offset_s(server_s: int, asked: Asked) -> tuple[float, float]:
    """Return how far the server is ahead of the local clock, and how wrong that may be,
    in seconds.

    The server rounds down, so its clock showed from 0 to 1 second more; and it was read
    at any moment between the question and the answer.
    """
    middle_s = (asked.at_s + asked.answered_at_s) / 2
    return server_s + 0.5 - middle_s, 0.5 + abs(asked.answered_at_s - asked.at_s) / 2


def lines(answer: bytes, asked: Asked) -> str:
    """Return the text for the user. ValueError unless the answer has four bytes."""
    server_s = seconds_of(answer, asked.answered_at_s)
    ahead_s, error_s = offset_s(server_s, asked)
    return f"{_text(server_s)}\noffset {ahead_s:+.1f} s (give or take {error_s:.1f} s)\n"


def print_answer(answer: bytes, asked_wall_s: float, output: streams.Output) -> None:
    """Print the answer that has just come. ClientFailure if it is no time."""
    try:
        output.write(lines(answer, Asked(asked_wall_s, time.time())).encode())
    except ValueError as error:
        raise not_a_server("time", str(error)) from error


def read(sock: socket.socket, output_fd: int, timeout_s: float | None) -> bytes:
    """Return the four bytes of a stream, or more than four if the server sent more.
    ClientFailure if it closes before.
    """
    answer = b""
    while len(answer) < ANSWER_BYTES:
        chunk = printing.receive(sock, output_fd, timeout_s)
        if not chunk:
            raise ClientFailure(
                ClientExit.CLOSED_EARLY,
                "server terminated prematurely",
                f"{len(answer)} of {ANSWER_BYTES} bytes came",
            )
        answer += chunk
    return answer


def _text(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
