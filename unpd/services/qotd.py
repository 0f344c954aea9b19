"""Quote of the day (RFC 865): the server sends a short text and closes; it answers each
datagram with such a text.

The text stands in the configuration, or the texts stand in a file, separated by lines
of a single ``%``, as fortune(6) has them. The configuration reads the file while it
validates the options, and again at each reload: the function that reads it is the
context of the validation, because a service opens no file. It also parses the file, and
only once for all services that name it. Both take time in proportion to the bytes: the
master does nothing else meanwhile.

Called by the table of services, the configuration and the engine. Raises ValueError
with one sentence for a text or a file that is empty or too long, while the options are
validated.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, Self, TypeVar

from unpd.libraries import Field, PrivateAttr, ValidationInfo, field_validator, model_validator
from unpd.services.base import Choosing, Options, Peer, Piece, chance

MAX_QUOTATION_BYTES = 512
"""RFC 865 has this limit; it includes the ends of the lines."""

MAX_FILE_BYTES = 1 << 20

SEPARATOR = b"%"

Parsed = TypeVar("Parsed")


class ReadFile(Protocol):
    """The context in which :class:`QotdOptions` are validated."""

    def __call__(self, path: str, max_bytes: int, parse: Callable[[bytes], Parsed]) -> Parsed:
        """What ``parse`` makes of the file at the absolute ``path``. ValueError with
        one sentence if the file cannot be read or is too large, or from ``parse``.
        """


class QotdOptions(Options):
    """The keys that only qotd services have, and the quotations that they name."""

    text: str = Field(
        "Be strict when sending and tolerant when receiving.",
        description="a text of at most 512 bytes",
    )
    file: str = Field("", description='the absolute path of a file of texts, or ""')

    _quotations: tuple[bytes, ...] = PrivateAttr(())

    @field_validator("text")
    @classmethod
    def _bounded(cls, text: str) -> str:
        quotation = _quotation(text.encode().splitlines())
        if not quotation:
            raise ValueError("the quotation is empty")
        if len(quotation) > MAX_QUOTATION_BYTES:
            raise ValueError(f"the quotation {_too_long(quotation)}")
        return text

    @field_validator("file")
    @classmethod
    def _readable(cls, path: str, known: ValidationInfo) -> str:
        _read(path, known)
        return path

    @model_validator(mode="after")
    def _look_up(self, known: ValidationInfo) -> Self:
        if self.file and "text" in self.model_fields_set:
            raise ValueError("text and file exclude each other: remove one of them")
        self._quotations = _read(self.file, known) or (_quotation(self.text.encode().splitlines()),)
        return self

    @property
    def quotations(self) -> tuple[bytes, ...]:
        """The quotations as they are sent; there is at least one."""
        return self._quotations


def _read(path: str, known: ValidationInfo) -> tuple[bytes, ...]:
    """The quotations in the file at ``path``; none if it is ""."""
    if not path:
        return ()
    if known.context is None:
        raise ValueError("a file cannot be read here")
    read: ReadFile = known.context
    return read(path, MAX_FILE_BYTES, quotations_in)


def quotations_in(content: bytes) -> tuple[bytes, ...]:
    """The quotations in a file. ValueError if it has none, or if one is too long."""
    found: list[bytes] = []
    lines = (*content.splitlines(), SEPARATOR)
    begin = 0
    for number in [at for at, line in enumerate(lines) if line.rstrip() == SEPARATOR]:
        quotation = _quotation(lines[begin:number]) if number > begin else b""
        if len(quotation) > MAX_QUOTATION_BYTES:
            raise ValueError(
                f"the quotation at line {begin + 1} of the file {_too_long(quotation)}"
            )
        if quotation:
            found.append(quotation)
        begin = number + 1
    if not found:
        raise ValueError("the file holds no quotation")
    return tuple(found)


def _too_long(quotation: bytes) -> str:
    return (
        f"has {len(quotation)} bytes with CR LF at the end of each line, but RFC 865 allows"
        f" {MAX_QUOTATION_BYTES}"
    )


def _quotation(lines: Sequence[bytes]) -> bytes:
    """Lines as they are sent, each ended by CR LF; b"" if all are blank."""
    bare = [line.rstrip() for line in lines]
    full = [index for index, line in enumerate(bare) if line]
    if not full:
        return b""
    return b"".join(line + b"\r\n" for line in bare[full[0] : full[-1] + 1])


def answer_sizes(options: QotdOptions) -> tuple[int, ...]:
    """How many bytes each answer to a datagram has."""
    return tuple(map(len, options.quotations))


class Qotd(Choosing):
    """The quotation service. It chooses at random. One worker, or one dispatcher with
    its sessions, never sends the same quotation twice in a row if there are several.
    Two workers may, and two sessions of a tcpmux, whose dispatcher cannot foresee what
    its client asks for.
    """

    def __init__(self, options: QotdOptions) -> None:
        self._quotations = options.quotations
        self._last = -1  # the index of the quotation chosen last
        self._is_chosen = False

    def choose(self, wall_s: float) -> None:
        """Choose another quotation than the last one."""
        count = len(self._quotations)
        if self._is_chosen:
            return
        self._is_chosen = True
        if self._last < 0:
            self._last = chance(wall_s, count)
        elif count > 1:
            self._last = (self._last + 1 + chance(wall_s, count - 1)) % count

    def sent(self) -> None:
        """The quotation that was chosen is the last one now."""
        self._is_chosen = False

    def greet(self, wall_s: float) -> bytes:
        """A quotation."""
        self.choose(wall_s)
        self.sent()
        return self._quotations[self._last]

    def converse(self) -> None:
        """None: the server closes after the quotation and discards what the client
        sends.
        """

    def answer(self, piece: Piece, peer: Peer, now: float) -> bytes:
        """A quotation, whatever the client sent."""
        return self.greet(now)
