"""The arguments of ``unpd client``."""

import argparse

import pytest

from unpd.cli import client
from unpd.cli.client.targets import Target, UsageError, Words, target_of


def parse(*words: str) -> argparse.Namespace:
    """Return the parsed arguments of ``unpd client WORDS``."""
    parser = argparse.ArgumentParser(prog="unpd")
    client.add_arguments(parser.add_subparsers(required=True))
    return parser.parse_args(["client", *words])


@pytest.mark.parametrize(("service", "port"), [("daytime", 13), ("echo", 7)])
def test_the_port_defaults_to_the_services_own(service: str, port: int) -> None:
    """By default the port is the well-known one, the timeout is ten seconds, and input
    goes line by line.
    """
    args = parse(service, "host")
    assert (args.port or args.default_port, args.timeout_s, args.raw) == (port, 10.0, False)


def test_port_timeout_and_raw_are_taken() -> None:
    """PORT, --timeout and --raw arrive as written; a timeout of 0 means none."""
    args = parse("echo", "--raw", "--timeout", "0", "::1", "10007")
    assert (args.service, args.host, args.port, args.timeout_s, args.raw) == (
        "echo",
        "::1",
        10007,
        0.0,
        True,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("echo",),
        ("finger", "host"),
        ("echo", "host", "0"),
        ("echo", "host", "65536"),
        ("echo", "host", "echo"),
        ("echo", "host", "\N{SUPERSCRIPT TWO}"),
        ("echo", "host", "--timeout", "-1"),
        ("echo", "host", "--timeout", "nan"),
        ("echo", "host", "--timeout", "inf"),
        ("echo", "host", "--timeout", "soon"),
        ("daytime", "--raw", "host"),
        ("daytime", "--json", "host"),
        ("tcpmux", "--udp", "host"),
        ("echo", "host", "--count", "0"),
        ("echo", "host", "--count", "1000000001"),
        ("echo", "host", "--count", "1.5"),
        ("echo", "host", "--interval", "0"),
        ("echo", "host", "--interval", "-1"),
        ("echo", "host", "--interval", "86401"),
        ("echo", "host", "--size", "15"),
        ("echo", "host", "--size", "1048577"),
        ("echo", "host", "--bulk", "0"),
        ("echo", "host", "--bulk", "nan"),
    ],
)
def test_wrong_usage_ends_with_2(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Arguments that make no sense are refused before a connection is tried, with the
    usage and exit code 2.
    """
    with pytest.raises(SystemExit) as ended:
        parse(*words)
    assert ended.value.code == 2
    assert "usage: unpd" in capsys.readouterr().err


def of(text: str, port: int | None = None, *, udp: bool = False) -> Target:
    """Return the target of these words for a service at port 7."""
    return target_of(Words(text=text, port=port, udp=udp, default_port=7))


def refused(text: str, port: int | None = None, *, udp: bool = False) -> str:
    """Return the sentence with which these words are refused."""
    with pytest.raises(UsageError) as refusal:
        of(text, port, udp=udp)
    return str(refusal.value)


def test_a_unix_socket_has_no_port_and_a_bounded_path() -> None:
    """A path with a port, and a path too long for the kernel, are wrong usage; a name
    with a port and a path alone are right.
    """
    assert refused("/run/x", 7) == "/run/x is the path of a UNIX socket, which has no port"
    assert "at most 107 bytes" in refused("/" + "é" * 54)
    assert of("/" + "e" * 106) == Target("/" + "e" * 106, None)
    assert of("name", 8) == Target("name", 8)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("127.0.0.1:21013", "write 127.0.0.1 21013, or an address such as tcp://127.0.0.1:21013"),
        ("localhost:13", "write localhost 13, or an address such as tcp://localhost:13"),
        ("[::1]:13", "write [::1] 13, or an address such as tcp://[::1]:13"),
        ("localhost:", "write HOST PORT, or an address such as tcp://localhost:PORT"),
        (":13", "write HOST PORT, or an address such as tcp://HOST:13"),
    ],
)
def test_a_port_behind_a_colon_is_wrong_usage(text: str, right: str) -> None:
    """A host has no colon, but an IPv6 address has: the port is an argument of its own,
    and no part of a name to look up.
    """
    assert refused(text) == f"{text}: the port is an argument of its own: {right}"
    assert of("::1") == Target("::1", 7)
    assert of("[::1]").port == 7


def test_an_empty_host_is_wrong_usage() -> None:
    """An empty host, as of a variable that is not set, is no name to look up."""
    assert refused("") == "HOST is empty: give a name, an address or a path"


def test_a_message_names_the_target_as_the_user_wrote_it() -> None:
    """A TCP target shows host and port, a UNIX one its path."""
    assert (Target("::1", 7).text, Target("/run/x", None).text) == ("::1 port 7", "/run/x")
    assert Target("::1", 7, datagrams=True).text == "::1 port 7 over UDP"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("tcp://127.0.0.1:10007", Target("127.0.0.1", 10007)),
        ("tcp://[::]:10007", Target("[::]", 10007)),
        ("udp://[fe80::1%eth0]:10007", Target("[fe80::1%eth0]", 10007, datagrams=True)),
        ("udp://name", Target("name", 7, datagrams=True)),
        ("unix:///run/unpd/echo.sock", Target("/run/unpd/echo.sock", None)),
        ("unixgram:///run/x.dgram", Target("/run/x.dgram", None, datagrams=True)),
        ("unix://@abstract", Target("@abstract", None)),
    ],
)
def test_the_addresses_of_the_status_are_taken(text: str, target: Target) -> None:
    """Each form that status prints is a target with the same transport; a port that is
    missing is that of the service.
    """
    assert of(text) == target
    assert of(text).transport == text.partition("://")[0]


def test_udp_makes_datagrams_of_a_name_and_of_a_path() -> None:
    """``--udp`` is for HOST and for a path, and says the same as a udp address."""
    assert of("name", 8, udp=True) == Target("name", 8, datagrams=True)
    assert of("/run/x", udp=True) == of("unixgram:///run/x")
    assert of("udp://name:8", udp=True) == of("name", 8, udp=True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tcp://::1:7", "tcp://::1:7 must be like tcp://HOST:PORT, with brackets"),
        ("tcp://[::1", "tcp://[::1 must be like tcp://HOST:PORT, with brackets"),
        ("tcp://", "tcp:// must be like tcp://HOST:PORT"),
        ("udp://h:0", "udp://h:0: the port must be a number from 1 to 65535"),
        ("udp://h:65536", "udp://h:65536: the port must be a number from 1 to 65535"),
        ("tcp://h:\N{SUPERSCRIPT TWO}", "the port must be a number from 1 to 65535"),
        ("unix://run/x", "unix://run/x: the path must be absolute, such as unix:///run/x"),
        ("http://h/", "http://h/ must begin with one of tcp, udp, unix, unixgram and ://"),
        ("systemd:echo", "systemd:echo is a name between unpd and systemd; give the address"),
        ("fe80::1", "fe80::1 needs its interface, such as fe80::1%eth0"),
        ("tcp://[fe80::1]:7", "fe80::1 needs its interface, such as fe80::1%eth0"),
        ("::1%lo", "::1%lo: only a link-local address (fe80::) takes an interface"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    """The sentence names the words of the user and the right form."""
    assert sentence in refused(text)


def test_a_port_and_udp_may_not_contradict_the_address() -> None:
    """An address has its port and its transport already."""
    assert "write the port in the address only" in refused("tcp://h:7", 7)
    for text in ("tcp://h:7", "unix:///run/x"):
        assert refused(text, udp=True) == f"{text} is a stream, which contradicts --udp"


def test_a_link_local_address_keeps_its_interface() -> None:
    """fe80:: and a multicast group take an interface; a name may have a per cent."""
    for text in ("fe80::1%eth0", "[fe80::1%2]", "ff02::1%eth0", "127.0.0.1%x"):
        assert of(text).host == text
