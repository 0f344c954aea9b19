"""The service of quotations (RFC 865), and what its options accept."""

import copy
import itertools
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from unpd.services.qotd import MAX_FILE_BYTES, Qotd, QotdOptions, quotations_in

FORTUNES = b"""One line.
%
Two lines,
the second of which is this.
%
Three.
"""


def options(content: bytes = b"", **given: Any) -> QotdOptions:
    """The options ``given``; each file has the ``content``."""
    return QotdOptions.model_validate(given, context=lambda *asked: asked[-1](content))


def refusal(content: bytes = b"", **given: Any) -> str:
    """Why the options ``given`` are refused."""
    with pytest.raises(ValidationError) as refused:
        options(content, **given)
    (error,) = refused.value.errors()
    return str(error["ctx"]["error"])


def test_sends_the_text_of_its_options() -> None:
    """Each line ends with CR LF, however it ends in the options."""
    assert Qotd(options(text="one\ntwo\r\nthree")).greet(0.0) == b"one\r\ntwo\r\nthree\r\n"


def test_has_a_quotation_without_options() -> None:
    """The robustness principle, in the words of RFC 1958, 3.9. It fits what an empty
    datagram may get over IPv4: 3 times 28 bytes of headers, of which the answer has 28.
    """
    quotation = Qotd(QotdOptions()).greet(0.0)
    assert quotation == b"Be strict when sending and tolerant when receiving.\r\n"
    assert len(quotation) <= 3 * 28 - 28


def test_sends_a_text_of_any_language_as_utf_8() -> None:
    """The limit counts bytes."""
    assert Qotd(options(text="Grüße")).greet(0.0) == "Grüße\r\n".encode()
    assert "has 514 bytes" in refusal(text="ü" * 256)


def test_a_file_holds_quotations_between_lines_of_a_percent_sign() -> None:
    """As fortune(6) has them; blank lines around a quotation do not count."""
    expected = (
        b"One line.\r\n",
        b"Two lines,\r\nthe second of which is this.\r\n",
        b"Three.\r\n",
    )
    assert quotations_in(FORTUNES) == expected
    assert quotations_in(FORTUNES.replace(b"\n", b"\r\n")) == expected
    assert quotations_in(b"%\n%\n\n" + FORTUNES.rstrip() + b"\n\n%\n \n%") == expected


def test_a_percent_sign_within_a_line_separates_nothing() -> None:
    """Only a line of its own does."""
    assert quotations_in(b"100 %\n%%\n% sure\n") == (b"100 %\r\n%%\r\n% sure\r\n",)


def test_every_quotation_gets_its_turn_and_none_comes_twice_in_a_row() -> None:
    """Over connections and datagrams together."""
    qotd = Qotd(options(FORTUNES, file="/fortunes"))
    seeded = random.Random(19)
    moments = [1.8e9 + seeded.random() for _ in range(3000)]
    got = [
        qotd.greet(now) if number % 2 else qotd.answer(b"", None, now)
        for number, now in enumerate(moments)
    ]
    assert all(first != second for first, second in itertools.pairwise(got))
    assert set(got) == set(quotations_in(FORTUNES))
    assert min(Counter(got).values()) > 500


def test_what_a_dispatcher_chooses_its_session_sends() -> None:
    """A session is a copy. It sends the choice whatever the time is then; the next one
    sends another. A fork that is tried again changes nothing.
    """
    qotd = Qotd(options(FORTUNES, file="/fortunes"))
    got = []
    for number in range(300):
        qotd.choose(number * 3.7e-5)
        qotd.choose(number * 3.7e-5 + 1e-6)
        session = copy.copy(qotd)
        got.append(session.greet(number * 5.1e-5))
        assert copy.copy(qotd).greet(number * 7.3e-5) == got[-1]
        qotd.sent()
    assert all(first != second for first, second in itertools.pairwise(got))
    assert set(got) == set(quotations_in(FORTUNES))


def test_the_first_quotation_may_be_any() -> None:
    """Each worker begins anew, and each dispatcher."""
    firsts = {Qotd(options(FORTUNES, file="/fortunes")).greet(now / 1e6) for now in range(200)}
    assert firsts == set(quotations_in(FORTUNES))


def test_a_quotation_has_at_most_512_bytes_with_its_line_ends() -> None:
    """One more is refused, in the text and in a file, with its line."""
    assert len(Qotd(options(text="x" * 510)).greet(0.0)) == 512
    assert refusal(text="x" * 511) == (
        "the quotation has 513 bytes with CR LF at the end of each line, but RFC 865 allows 512"
    )
    assert refusal(b"short\n%\n" + b"x" * 511, file="/fortunes") == (
        "the quotation at line 3 of the file has 513 bytes with CR LF at the end of each line,"
        " but RFC 865 allows 512"
    )


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_an_empty_text_is_refused(text: str) -> None:
    """A client would wait for a quotation that never comes."""
    assert refusal(text=text) == "the quotation is empty"


@pytest.mark.parametrize("content", [b"", b"\n", b"%\n%\n"])
def test_a_file_without_a_quotation_is_refused(content: bytes) -> None:
    """Nothing could be sent."""
    assert refusal(content, file="/fortunes") == "the file holds no quotation"


def test_text_and_file_exclude_each_other() -> None:
    """One of them would be ignored."""
    assert "exclude each other" in refusal(FORTUNES, text="x", file="/fortunes")


def test_a_file_is_read_by_the_configuration_only() -> None:
    """The service itself opens no file; the limit of its size is its own."""
    asked: list[tuple[str, int]] = []

    def read(path: str, max_bytes: int, parse: Callable[[bytes], Any]) -> Any:
        asked.append((path, max_bytes))
        return parse(FORTUNES)

    QotdOptions.model_validate({"file": "/fortunes"}, context=read)
    assert set(asked) == {("/fortunes", MAX_FILE_BYTES)}
    with pytest.raises(ValidationError, match="cannot be read here"):
        QotdOptions(file="/fortunes")


def test_no_conversation() -> None:
    """The quotation is all: the server closes after it."""
    assert Qotd(QotdOptions()).converse() is None  # type: ignore[func-returns-value]
