"""One HTTP connection over a pair of sockets, step by step and with a clock of its
own: what completes a request, what bounds it, how it ends.
"""

import select
import socket
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from tests.support.exporter import Answer, read_all
from unpd.metrics.http import (
    BLANKS,
    CONNECTION_S,
    HEADER_BYTES,
    LINGER_S,
    REQUEST_S,
    HttpConnection,
    Phase,
)
from unpd.metrics.messages import Page, Request, text_page

OPENED_AT = 1000.0
GET = b"GET /a?b HTTP/1.1\r\nHost: unpd\r\nAccept: text/plain\r\nACCEPT: */*\r\n\r\n"


class Conversation:
    """A connection and its client. ``requests``: what was asked of the pages."""

    def __init__(self, ours: socket.socket, client: socket.socket) -> None:
        self.client = client
        self.requests: list[Request] = []
        self.connection = HttpConnection(ours, self.find_page, OPENED_AT)

    def find_page(self, request: Request) -> Page:
        """The page "yes"; for /fault a fault of our own."""
        self.requests.append(request)
        if request.path == "/fault":
            raise ZeroDivisionError
        return text_page(HTTPStatus.OK, "yes\n")

    def receive(self, sent: bytes, now: float = OPENED_AT) -> Phase:
        """Let the client send this, and the connection read it."""
        self.client.sendall(sent)
        self.connection.ready(now)
        return self.connection.phase

    def receive_fin(self) -> Phase:
        """Let the client shut its side down, and the connection read that."""
        self.client.shutdown(socket.SHUT_WR)
        self.connection.ready(OPENED_AT)
        return self.connection.phase

    def answer(self) -> Answer:
        """What the client gets, up to our FIN."""
        return Answer.parse(read_all(self.client))


@pytest.fixture
def talk() -> Iterator[Conversation]:
    """A connection whose client has sent nothing yet."""
    ours, client = socket.socketpair()
    with ours, client:
        ours.setblocking(False)
        client.settimeout(10)
        yield Conversation(ours, client)


# --- what completes a request ---------------------------------------------------------


def test_a_request_is_what_the_pages_need_of_it(talk: Conversation) -> None:
    """Method, path without query, Host and Accept; header lines of one name are one."""
    assert talk.receive(GET) is Phase.LINGERING
    assert talk.requests == [Request("GET", "/a", "unpd", "text/plain, */*")]
    answer = talk.answer()
    assert (answer.status, answer.body) == (200, b"yes\n")
    assert answer.headers.keys() == {"date", "content-type", "content-length", "connection"}


@pytest.mark.parametrize("at", range(1, len(GET)))
def test_a_request_may_be_cut_anywhere(talk: Conversation, at: int) -> None:
    """Segments carry no meaning."""
    assert talk.receive(GET[:at]) is Phase.RECEIVING
    assert talk.receive(GET[at:]) is Phase.LINGERING
    assert talk.answer().status == 200


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_empty_lines_before_a_request_are_passed_over(talk: Conversation, cut: int) -> None:
    """A server ignores empty lines before a request (RFC 9112, 2.2)."""
    lines = b"\r\n\r\n" + GET
    assert talk.receive(lines[:cut]) is Phase.RECEIVING
    assert talk.receive(lines[cut:]) is Phase.LINGERING
    assert talk.answer().status == 200


def test_empty_lines_count_as_header(talk: Conversation) -> None:
    """Empty lines without end are a header that is too large."""
    assert talk.receive(b"\r\n" * HEADER_BYTES) is Phase.LINGERING
    assert talk.answer().status == 431


@pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, 200), (2, 431)])
@pytest.mark.parametrize("at", [1, 4000])
def test_a_header_has_8_kib(talk: Conversation, excess: int, status: int, at: int) -> None:
    """A header of 8 KiB is read, one that is not complete after them is not (431)."""
    filler = b"x" * (HEADER_BYTES + excess - len(GET) - len(b"X: \r\n"))
    request_ = GET[:-2] + b"X: " + filler + b"\r\n\r\n"
    talk.receive(request_[:at])
    assert talk.receive(request_[at:]) is Phase.LINGERING
    assert talk.answer().status == status


def test_a_body_of_nothing_is_none(talk: Conversation) -> None:
    """A request may say that its body has no bytes."""
    talk.receive(GET[:-2] + b"Content-Length: 00\r\n\r\n")
    assert talk.answer().status == 200


def test_head_gets_the_length_alone(talk: Conversation) -> None:
    """HEAD is answered as GET, without the body."""
    talk.receive(GET.replace(b"GET", b"HEAD"))
    answer = talk.answer()
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "4", b"")


@pytest.mark.parametrize("blanks", [b" ", b"\t", b" \t"])
@pytest.mark.parametrize("cut", [0, 1, 30])
def test_long_blanks_are_refused_wherever_they_are_cut(
    talk: Conversation, blanks: bytes, cut: int
) -> None:
    """A run of blanks that would be slow to parse is refused; the longest that is
    allowed is not.
    """
    allowed = (blanks * BLANKS)[:BLANKS]
    talk.receive(GET[:-2] + b"X:" + allowed + b"a" + allowed + b"b\r\nY:" + allowed[:cut])
    assert talk.connection.phase is Phase.RECEIVING
    talk.receive(allowed[cut:] + allowed[:1])
    assert talk.answer().status == 400


@pytest.mark.parametrize("odd", [b"X: a\r\n b\r\n", b"X: a\r\n\tb\r\n", b"X: a\n", b"X: a\n\n"])
@pytest.mark.parametrize("cut", [0, 2, 3])
def test_folded_lines_and_bare_line_feeds_are_refused(
    talk: Conversation, odd: bytes, cut: int
) -> None:
    """They are refused wherever a segment ends."""
    request_ = GET[:-2] + odd + b"\r\n"
    at = request_.rindex(b"a") + cut
    talk.receive(request_[:at])
    if talk.connection.phase is Phase.RECEIVING:
        talk.receive(request_[at:])
    assert talk.answer().status == 400


def test_what_follows_a_request_is_not_looked_at(talk: Conversation) -> None:
    """Neither a second request nor odd bytes after the first change its answer."""
    talk.receive(GET + b"\n " + b" " * 100 + GET)
    assert len(talk.requests) == 1
    assert talk.answer().status == 200


# --- how it ends ----------------------------------------------------------------------


def test_a_client_that_goes_without_a_word_gets_none(talk: Conversation) -> None:
    """A connection that the client ends before it has sent anything is over."""
    assert talk.receive_fin() is Phase.OVER


def test_half_a_request_before_the_clients_end_is_refused(talk: Conversation) -> None:
    """A client that shuts its side down too early is told so."""
    talk.receive(GET[:20])
    assert talk.receive_fin() is Phase.LINGERING
    assert talk.answer().status == 400


def test_it_lingers_until_the_client_has_gone(talk: Conversation) -> None:
    """After the answer what comes is thrown away, until the client's end."""
    talk.receive(GET)
    assert talk.receive(b"more") is Phase.LINGERING
    assert talk.receive_fin() is Phase.OVER
    assert len(talk.requests) == 1


def test_a_reset_ends_it(talk: Conversation) -> None:
    """A client that is gone when we answer ends the connection, without an error."""
    talk.client.sendall(GET)
    talk.client.close()
    talk.connection.ready(OPENED_AT)
    assert talk.connection.phase is Phase.OVER


def test_each_phase_has_its_time(talk: Conversation) -> None:
    """A request has 2 s, lingering 1 s; bytes that come prolong neither."""
    connection = talk.connection
    assert connection.deadline == OPENED_AT + REQUEST_S
    talk.receive(GET[:10], now=OPENED_AT + 1.0)
    assert connection.deadline == OPENED_AT + REQUEST_S
    talk.receive(GET[10:], now=OPENED_AT + 1.5)
    assert connection.deadline == OPENED_AT + 1.5 + LINGER_S
    talk.receive(b"more", now=OPENED_AT + 2.0)
    assert connection.deadline == OPENED_AT + 1.5 + LINGER_S


def test_sending_and_lingering_have_10_s_together(talk: Conversation) -> None:
    """A slow reader has until ten seconds after the opening; lingering adds nothing."""
    big = b"x" * 1_000_000
    connection = HttpConnection(talk.connection.sock, lambda _: Page(HTTPStatus.OK, big), OPENED_AT)
    talk.client.sendall(GET)
    connection.ready(OPENED_AT + 1.0)
    assert (connection.phase, connection.mask) == (Phase.SENDING, select.EPOLLOUT)
    assert connection.deadline == OPENED_AT + CONNECTION_S
    received = 0
    while connection.phase is Phase.SENDING:
        received += len(talk.client.recv(65536))
        connection.ready(OPENED_AT + 9.5)
    assert received + len(read_all(talk.client)) > len(big)
    assert (connection.phase, connection.mask) == (Phase.LINGERING, select.EPOLLIN)
    assert connection.deadline == OPENED_AT + CONNECTION_S


def test_a_fault_of_ours_is_a_bare_500(talk: Conversation) -> None:
    """A page that raises is raised to the loop, whose call of fail() answers."""
    with pytest.raises(ZeroDivisionError):
        talk.receive(GET.replace(b"/a", b"/fault"))
    talk.connection.fail(OPENED_AT)
    answer = talk.answer()
    assert (answer.status, answer.body) == (500, b"Internal error.\n")


def test_a_fault_after_the_answer_began_ends_it(talk: Conversation) -> None:
    """No second answer follows a first one."""
    talk.receive(GET)
    talk.connection.fail(OPENED_AT)
    assert talk.connection.phase is Phase.OVER
    assert talk.answer().status == 200
