"""Listen addresses: valid forms, canonical forms, and the sentence for each invalid
one.
"""

import os

import pytest

from unpd.config.addresses import (
    Address,
    SystemdAddress,
    TcpAddress,
    UdpAddress,
    UnixAddress,
    UnixgramAddress,
    parse_address,
    refuse_path,
)

FORMS = (
    'must be an address such as "tcp://127.0.0.1:7", "tcp://[::]:7", "udp://[::]:7",'
    ' "unix:///run/unpd/echo.sock" or "systemd:echo"'
)
NOT_NUMERIC = (
    "the host must be a numeric address such as 127.0.0.1, 0.0.0.0 or [::]; names are not looked up"
)
NO_CONTROL = "a path must not contain control characters"
LONGEST = "/" + "x" * 106
SYSTEMD_NAME = (
    "the name must have 1 to 100 printable ASCII characters and no colon, as in FileDescriptorName="
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://127.0.0.1:7", TcpAddress("127.0.0.1", 7)),
        ("tcp://0.0.0.0:0", TcpAddress("0.0.0.0", 0)),
        ("tcp://[::]:65535", TcpAddress("::", 65535)),
        ("tcp://[fe80::1%eth0]:13", TcpAddress("fe80::1%eth0", 13)),
        ("tcp://[fe80::1%0123456789abcde]:13", TcpAddress("fe80::1%0123456789abcde", 13)),
        ("systemd:echo", SystemdAddress("echo")),
        ("systemd:" + "n" * 100, SystemdAddress("n" * 100)),
        ("tcp://[fe80::1%eth0.100]:13", TcpAddress("fe80::1%eth0.100", 13)),
        ("unix:///run/unpd/echo.sock", UnixAddress("/run/unpd/echo.sock")),
        ("unix:///run/my echo .sock", UnixAddress("/run/my echo .sock")),
        ("unix:///run/caf\u00e9\u00a0:%20@[\"'", UnixAddress("/run/caf\u00e9\u00a0:%20@[\"'")),
        (f"unix://{LONGEST}", UnixAddress(LONGEST)),
        ("udp://127.0.0.1:7", UdpAddress("127.0.0.1", 7)),
        ("udp://[::]:0", UdpAddress("::", 0)),
        ("udp://[fe80::1%eth0]:13", UdpAddress("fe80::1%eth0", 13)),
        ("unixgram:///run/unpd/echo.dgram", UnixgramAddress("/run/unpd/echo.dgram")),
        (f"unixgram://{LONGEST}", UnixgramAddress(LONGEST)),
    ],
)
def test_round_trip(text: str, address: Address) -> None:
    """An address parses back from its own text."""
    assert parse_address(text) == address
    assert address.text == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("tcp://[0:0::0]:7", "tcp://[::]:7"), ("tcp://[2001:DB8::1]:007", "tcp://[2001:db8::1]:7")],
)
def test_canonical(text: str, canonical: str) -> None:
    """Different spellings of one address are equal, so that they make one listener."""
    assert parse_address(text).text == canonical


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", f'"" {FORMS}'),
        ("echo", f'"echo" {FORMS}'),
        ("udp://7", '"udp://7" lacks a host, such as udp://[::]:7 for every address'),
        ("udp://127.0.0.1", '"udp://127.0.0.1" lacks a port, such as udp://127.0.0.1:7'),
        (
            "udp://224.0.0.1:7",
            '"udp://224.0.0.1:7": nothing can listen on a multicast or broadcast address',
        ),
        (
            "unixgram://run/x",
            (
                '"unixgram://run/x": the path must be absolute, such as'
                " unixgram:///run/unpd/echo.sock"
            ),
        ),
        (
            "tcp://127.0.0.1:7 ",
            f'"tcp://127.0.0.1:7 " {FORMS}, without spaces and control characters',
        ),
        (" unix:///a", f'" unix:///a" {FORMS}, without spaces and control characters'),
        ("systemd:a b", f'"systemd:a b" {FORMS}, without spaces and control characters'),
        (
            "tcp://[fe80::1%a\u00a0b]:7",
            f'"tcp://[fe80::1%a\\u00a0b]:7" {FORMS}, without spaces and control characters',
        ),
        *(
            (text, f'"{text}" has several addresses: put each in quotes of its own')
            for text in (
                "tcp://127.0.0.1:7,udp://127.0.0.1:7",
                "tcp://127.0.0.1:7, tcp://[::1]:7",
                "tcp://127.0.0.1:7 unix:///run/x",
                "unix:///run/x,unixgram:///run/y",
                "systemd:echo;systemd:daytime",
            )
        ),
        ("unix:///a\x00", NO_CONTROL),
        ("unix:///a\n", NO_CONTROL),
        ("unix:///a\x7f", NO_CONTROL),
        ("unix:///a\x85", NO_CONTROL),
        ("unix:///a\u2028", NO_CONTROL),
        ("unix:///a\udc80", NO_CONTROL),
        ("file:///run/x", f'"file:///run/x" {FORMS}'),
        ("systemd:", f'"systemd:": {SYSTEMD_NAME}'),
        ("systemd:a:b", f'"systemd:a:b": {SYSTEMD_NAME}'),
        ("systemd:\u00e9", f'"systemd:\\u00e9": {SYSTEMD_NAME}'),
        ("systemd:" + "n" * 101, f'"systemd:{"n" * 101}": {SYSTEMD_NAME}'),
        (
            "systemd://echo",
            '"systemd://echo": a name follows the colon, such as systemd:echo',
        ),
        ("tcp://[::1]x:7", f'"tcp://[::1]x:7" {FORMS}'),
        ("tcp://127.0.0.1", '"tcp://127.0.0.1" lacks a port, such as tcp://127.0.0.1:7'),
        ("tcp://[::1]", '"tcp://[::1]" lacks a port, such as tcp://127.0.0.1:7'),
        ("tcp://127.0.0.1:", '"tcp://127.0.0.1:": the port must be a number from 0 to 65535'),
        (
            "tcp://127.0.0.1:65536",
            '"tcp://127.0.0.1:65536": the port must be a number from 0 to 65535',
        ),
        ("tcp://127.0.0.1:-1", '"tcp://127.0.0.1:-1": the port must be a number from 0 to 65535'),
        (
            "tcp://127.0.0.1:\u0667",
            '"tcp://127.0.0.1:\\u0667": the port must be a number from 0 to 65535',
        ),
        (
            "tcp://::1:7",
            '"tcp://::1:7": an IPv6 address must be in brackets, such as tcp://[::1]:7',
        ),
        ("tcp://localhost:7", f'"tcp://localhost:7": {NOT_NUMERIC}'),
        ("tcp://*:7", '"tcp://*:7": every address is written as [::] or 0.0.0.0'),
        ("tcp://:7", '"tcp://:7": every address is written as [::] or 0.0.0.0'),
        ("tcp://7", '"tcp://7" lacks a host, such as tcp://[::]:7 for every address'),
        *(
            (
                text,
                (
                    f'"{text}" is no address: for every address of this host write'
                    ' "tcp://[::]:65535", for clients on this host only "tcp://127.0.0.1:65535"'
                ),
            )
            for text in ("65535", ":65535", "*:65535")
        ),
        ("65536", f'"65536" {FORMS}'),
        *(
            (text, f'"{text}" is no address; did you mean "{meant}"?')
            for text, meant in {
                "0.0.0.0:7": "tcp://0.0.0.0:7",
                "[::]:7": "tcp://[::]:7",
                "tcp:127.0.0.1:7": "tcp://127.0.0.1:7",
                "tcp4://127.0.0.1:7": "tcp://127.0.0.1:7",
                "TCP6:[::1]:7": "tcp://[::1]:7",
                "/run/x.sock": "unix:///run/x.sock",
                "unix:/run/x.sock": "unix:///run/x.sock",
            }.items()
        ),
        ("http://127.0.0.1:7", f'"http://127.0.0.1:7" {FORMS}'),
        ("localhost:7", f'"localhost:7" {FORMS}'),
        ("tcp://127.1:7", f'"tcp://127.1:7": {NOT_NUMERIC}'),
        (
            "tcp://224.0.0.1:7",
            '"tcp://224.0.0.1:7": nothing can listen on a multicast or broadcast address',
        ),
        (
            "tcp://255.255.255.255:7",
            '"tcp://255.255.255.255:7": nothing can listen on a multicast or broadcast address',
        ),
        (
            "tcp://[ff02::1]:7",
            '"tcp://[ff02::1]:7": nothing can listen on a multicast or broadcast address',
        ),
        ("tcp://[::g]:7", '"tcp://[::g]:7": this is not an IPv6 address such as [::1]'),
        ("tcp://[127.0.0.1]:7", '"tcp://[127.0.0.1]:7": this is not an IPv6 address such as [::1]'),
        (
            "tcp://[::ffff:127.0.0.1]:7",
            '"tcp://[::ffff:127.0.0.1]:7": write an IPv4 address plainly, as tcp://127.0.0.1:PORT',
        ),
        (
            "tcp://[fe80::1]:7",
            '"tcp://[fe80::1]:7": a link-local address needs its interface, such as [fe80::1%eth0]',
        ),
        (
            "tcp://[::1%lo]:7",
            '"tcp://[::1%lo]:7": only a link-local address (fe80::) takes an interface',
        ),
        (
            "tcp://[fe80::1%0123456789abcdef]:7",
            (
                '"tcp://[fe80::1%0123456789abcdef]:7": the name of an interface has at most 15'
                " bytes, without slashes and colons"
            ),
        ),
        *(
            (
                f"tcp://[fe80::1%{name}]:7",
                (
                    f'"tcp://[fe80::1%{name}]:7": the name of an interface has at most 15 bytes,'
                    " without slashes and colons"
                ),
            )
            for name in ("a:b", ".", "..")
        ),
        (
            "unix://run/x",
            '"unix://run/x": the path must be absolute, such as unix:///run/unpd/echo.sock',
        ),
        (
            "unix://@name",
            '"unix://@name": the path must be absolute, such as unix:///run/unpd/echo.sock',
        ),
        (
            "unix:///run/../x",
            '"/run/../x" must name a file, without ".", "..", double slashes or a trailing slash',
        ),
        (
            "unix:////run",
            '"//run" must name a file, without ".", "..", double slashes or a trailing slash',
        ),
        (
            "unix:///run/",
            '"/run/" must name a file, without ".", "..", double slashes or a trailing slash',
        ),
        ("unix:///", '"/" must name a file, without ".", "..", double slashes or a trailing slash'),
        (f"unix://{LONGEST}x", "the path of a UNIX socket has at most 107 bytes"),
        ("unix:///" + "\u00e9" * 54, "the path of a UNIX socket has at most 107 bytes"),
        ("unix:///" + "x" * 4095, "a path has at most 4095 bytes"),
    ],
)
def test_refuses(text: str, sentence: str) -> None:
    """A text that is not an address is refused with one sentence that says what would
    be right.
    """
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the text is compared below, whole
        parse_address(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("path", ["/with a space", "/caf\u00e9", "/" + "x" * 4094])
def test_path_of_a_file(path: str) -> None:
    """A path may contain spaces, and may be as long as the system allows."""
    refuse_path(path)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/a\x1f", "a path must not contain control characters"),
        ("/a\x7f", "a path must not contain control characters"),
        ("/a\x9b31m", "a path must not contain control characters"),
        ("/" + "x" * 4095, "a path has at most 4095 bytes"),
    ],
)
def test_path_of_no_file(path: str, sentence: str) -> None:
    """A path with a control character, or one byte too long, is refused."""
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        refuse_path(path)


def test_long_text_is_cut() -> None:
    """A message repeats only the beginning of a very long text."""
    with pytest.raises(ValueError, match=r'^"x{120}\.\.\." must be an address') as caught:
        parse_address("x" * 1_000_000)
    assert len(str(caught.value)) < 300


def test_a_path_has_its_limit_in_utf8_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a locale of one byte a letter, a path that fits the kernel may be too long for
    the scoreboard.
    """
    monkeypatch.setattr(os, "fsencode", lambda path: path.encode("latin-1"))
    path = "/" + "\u00e9" * 53
    assert parse_address(f"unix://{path}") == UnixAddress(path)
    with pytest.raises(ValueError, match="the path of a UNIX socket has at most 107 bytes"):
        parse_address(f"unix://{path}\u00e9")


def test_one_host_and_port_of_two_transports_are_two_addresses() -> None:
    """A UDP address is another than the TCP address of the same host and port, and a
    datagram socket another than a stream socket of the same path.
    """
    assert parse_address("udp://[::]:7") != parse_address("tcp://[::]:7")
    assert parse_address("unix:///run/x") != parse_address("unixgram:///run/x")
