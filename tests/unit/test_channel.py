"""The channel's framing and its bounds, over a transport that is written down."""

import errno
from collections import deque

import pytest

from tests.support.transports import WithoutDescriptors
from unpd.channel import (
    MAX_LINE_BYTES,
    MAX_PENDING_BYTES,
    ChannelEnd,
    ChannelError,
    ChannelFullError,
)


class Script(WithoutDescriptors):
    """A transport: ``comes`` is what each recv brings (an errno fails; when it is used
    up, nothing has come), ``room`` is how many bytes send takes before it would block.
    """

    def __init__(self, *comes: bytes | int, room: int = 1 << 30, broken: int = 0) -> None:
        self.comes = deque(comes)
        self.room = room
        self.broken = broken
        self.sent = b""
        self.closed = False

    def fileno(self) -> int:
        """A number that no test uses."""
        return 99

    def send(self, data: bytes, /) -> int:
        """Take what there is room for."""
        if self.broken:
            raise OSError(self.broken, "as written")
        taken = data[: self.room]
        if not taken:
            raise BlockingIOError(errno.EAGAIN, "no room")
        self.room -= len(taken)
        self.sent += taken
        return len(taken)

    def recv(self, size: int, /) -> bytes:
        """Bring the next piece of the script."""
        assert size > 0
        if not self.comes:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        piece = self.comes.popleft()
        if isinstance(piece, int):
            raise OSError(piece, "as written")
        assert len(piece) <= size
        return piece

    def close(self) -> None:
        """Note it."""
        self.closed = True


def test_a_message_is_one_line_of_json() -> None:
    """What one end sends the other one receives, as it was."""
    script = Script()
    ChannelEnd(script).send({"ready": True, "text": "a\nb ü"})
    assert script.sent.count(b"\n") == 1
    assert script.sent.endswith(b"\n")
    assert ChannelEnd(Script(script.sent)).receive() == [{"ready": True, "text": "a\nb ü"}]


def test_a_message_may_come_in_pieces_and_several_in_one() -> None:
    """Only complete lines are messages; a part waits for its rest."""
    end = ChannelEnd(Script(b'{"a"', b':1}\n{"b":2}\n{"c"', b":3}\n"))
    assert end.receive() == []
    assert end.receive() == [{"a": 1}, {"b": 2}]
    assert end.receive() == [{"c": 3}]
    assert end.receive() == []
    assert not end.ended


def test_the_end_is_a_flag_and_no_error() -> None:
    """Messages before it are received; a reset is an end too."""
    end = ChannelEnd(Script(b'{"a":1}\n', b""))
    assert (end.receive(), end.ended) == ([{"a": 1}], False)
    assert (end.receive(), end.ended) == ([], True)
    reset = ChannelEnd(Script(errno.ECONNRESET))
    assert (reset.receive(), reset.ended) == ([], True)


@pytest.mark.parametrize(
    "line", [b"ready\n", b"[1]\n", b"3\n", b"\n", b"\xff\n", b"[" * 50_000 + b"\n"]
)
def test_what_is_no_object_is_refused(line: bytes) -> None:
    """Whatever a faulty side sends is an error of the channel, never another one."""
    with pytest.raises(ChannelError, match=r"^a message is not a (line of JSON|JSON object)$"):
        ChannelEnd(Script(line)).receive()


def test_a_line_that_never_ends_is_refused() -> None:
    """The buffer is bounded: the longest line is received, a longer one is an error
    before its end has come.
    """
    longest = b'{"a":"' + b"x" * (MAX_LINE_BYTES - 9) + b'"}\n'
    assert len(longest) == MAX_LINE_BYTES
    end = ChannelEnd(Script(longest[:-1], longest[-1:]))
    assert end.receive() == []
    assert len(end.receive()) == 1
    endless = ChannelEnd(Script(b"x" * (MAX_LINE_BYTES - 1), b"x"))
    assert endless.receive() == []
    with pytest.raises(ChannelError, match="longer than"):
        endless.receive()


def test_what_the_socket_does_not_take_waits() -> None:
    """``pending`` tells it, and flush sends the rest in order."""
    script = Script(room=5)
    end = ChannelEnd(script)
    end.send({"a": 1})
    end.send({"b": 2})
    assert (script.sent, end.pending) == (b'{"a":', True)
    end.flush()
    assert end.pending
    script.room = 1 << 20
    end.flush()
    assert (script.sent, end.pending) == (b'{"a":1}\n{"b":2}\n', False)


def test_what_waits_is_bounded() -> None:
    """A side that does not read costs MAX_PENDING_BYTES; a message that finds no place
    is refused whole, and the ones before it are still sent.
    """
    script = Script(room=0)
    end = ChannelEnd(script)
    message = {"a": "x" * (MAX_LINE_BYTES - 9)}
    for _ in range(MAX_PENDING_BYTES // MAX_LINE_BYTES):
        end.send(message)
    with pytest.raises(ChannelFullError):
        end.send({})
    script.room = 1 << 30
    end.flush()
    assert len(script.sent) == MAX_PENDING_BYTES
    end.send({})
    assert script.sent.endswith(b"{}\n")


def test_a_message_that_is_no_line_is_our_fault() -> None:
    """One byte too much, and nothing is sent."""
    script = Script()
    ChannelEnd(script).send({"a": "x" * (MAX_LINE_BYTES - 9)})
    assert len(script.sent) == MAX_LINE_BYTES
    with pytest.raises(ValueError, match="too long"):
        ChannelEnd(Script()).send({"a": "x" * (MAX_LINE_BYTES - 8)})


def test_a_descriptor_never_overtakes_bytes_that_wait() -> None:
    """It belongs to the first byte of its message, so that the message is refused while
    a part of another one waits, although the socket has room again.
    """
    script = Script(room=5)
    end = ChannelEnd(script)
    end.send({"a": 1})
    script.room = 1 << 20
    with pytest.raises(ChannelFullError):
        end.send({"log": 1}, 7)
    end.flush()
    assert script.sent == b'{"a":1}\n'


def test_what_is_sent_to_nobody_is_lost() -> None:
    """The other side's end shows itself in a send as well; it is no error."""
    end = ChannelEnd(Script(broken=errno.EPIPE))
    end.send({"a": 1})
    assert (end.ended, end.pending) == (True, False)


def test_the_end_of_a_channel_owns_its_descriptor() -> None:
    """It tells the number and closes it."""
    script = Script()
    end = ChannelEnd(script)
    assert end.fileno() == script.fileno()
    end.close()
    assert script.closed
