"""The arguments of ``unpd client``."""

import argparse

import pytest

from unpd.cli import client
from unpd.cli.client.connect import Target, usage_problem


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
        ("chargen", "host"),
        ("echo", "host", "0"),
        ("echo", "host", "65536"),
        ("echo", "host", "echo"),
        ("echo", "host", "\N{SUPERSCRIPT TWO}"),
        ("echo", "host", "--timeout", "-1"),
        ("echo", "host", "--timeout", "nan"),
        ("echo", "host", "--timeout", "inf"),
        ("echo", "host", "--timeout", "soon"),
        ("daytime", "--raw", "host"),
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


def test_a_unix_socket_has_no_port_and_a_bounded_path() -> None:
    """A path with a port, and a path too long for the kernel, are wrong usage; a name
    with a port and a path alone are right.
    """
    assert usage_problem("/run/x", 7) == "/run/x is the path of a UNIX socket, which has no port"
    assert "at most 107 bytes" in str(usage_problem("/" + "é" * 54, None))
    assert usage_problem("/" + "e" * 106, None) is None
    assert usage_problem("name", 7) is None


def test_a_message_names_the_target_as_the_user_wrote_it() -> None:
    """A TCP target shows host and port, a UNIX one its path."""
    assert (Target("::1", 7).text, Target("/run/x", None).text) == ("::1 port 7", "/run/x")
