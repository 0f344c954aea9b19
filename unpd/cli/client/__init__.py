"""``unpd client``: the arguments of the clients, and the way to them.

Called by the parser and by dispatch; calls :mod:`unpd.cli.client.command`. Importing
this module costs next to nothing: a client imports the sockets, and all that belongs to
them, when it runs. Errors: argparse refuses wrong usage; a run ends with a ClientExit.
"""

import argparse
from collections.abc import Callable

MAX_TIMEOUT_S = 86_400.0
MIN_INTERVAL_S = 0.001
MAX_COUNT = 1_000_000_000
MIN_SIZE, MAX_SIZE = 16, 1 << 20
MAX_BULK_S = 3_600.0

SERVICES = (
    ("daytime", 13, "print the date and time of the server (RFC 867)"),
    ("echo", 7, "send standard input, print what comes back (RFC 862), or measure"),
    ("discard", 9, "send standard input, expect nothing (RFC 863)"),
    ("chargen", 19, "print the characters of the server, until Ctrl-C (RFC 864)"),
    ("qotd", 17, "print the quotation of the server (RFC 865)"),
    ("time", 37, "print the time of the server and the offset to the local clock (RFC 868)"),
    ("tcpmux", 1, "list the services behind a port, or use one (RFC 1078)"),
)
"""The clients: service, port, and the line in the list of clients."""

_NOT_GIVEN = (
    ("udp", False),
    ("raw", False),
    ("name", None),
    ("count", None),
    ("interval_s", None),
    ("size", None),
    ("bulk_s", None),
    ("json", False),
)
"""The options that not every client has, as they are where nobody gave them."""


def add_arguments(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command ``client`` and its services to the command line; ``run`` takes
    the parsed arguments.
    """
    client = commands.add_parser(
        "client",
        help=f"talk to a server: {', '.join(name for name, _, _ in SERVICES)}",
        allow_abbrev=False,
        description="Talk to a server of the classic small services.",
    )
    services = client.add_subparsers(dest="service", required=True, metavar="SERVICE")
    parsers = {}
    for name, port, line in SERVICES:
        parser = services.add_parser(
            name, help=line, allow_abbrev=False, description=f"{line[0].upper()}{line[1:]}."
        )
        _add_server(parser, default_port=port, udp=name != "tcpmux")
        parsers[name] = parser
    for name in ("echo", "discard"):
        parsers[name].add_argument(
            "--raw",
            action="store_true",
            help="send standard input as it comes, without waiting for the end of a line",
        )
    _add_measurement(parsers["echo"])
    parsers["tcpmux"].add_argument(
        "--name", metavar="NAME", help="use the service of this name (default: list the names)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the client that the arguments ask for; return a
    :class:`unpd.names.ClientExit`. Writes to descriptors 1 and 2, never to sys.stdout.
    """
    from unpd.names import ClientExit  # noqa: PLC0415 - see above

    try:
        from unpd.cli.client import asked, command, targets  # noqa: PLC0415 - see above

        measured = (args.count, args.interval_s, args.size, args.bulk_s, args.json or None)
        wanted = asked.Asked(
            count=args.count,
            interval_s=args.interval_s,
            size=args.size,
            bulk_s=args.bulk_s,
            as_json=args.json,
        )
        words = targets.Words(
            text=args.host, port=args.port, udp=args.udp, default_port=args.default_port
        )
        return command.run_client(
            command.Options(
                service=args.service,
                words=words,
                timeout_s=args.timeout_s,
                raw=args.raw,
                name=args.name or "",
                asked=None if measured == (None,) * len(measured) else wanted,
            )
        )
    except KeyboardInterrupt:
        return ClientExit.INTERRUPTED


def _add_server(parser: argparse.ArgumentParser, *, default_port: int, udp: bool) -> None:
    parser.set_defaults(default_port=default_port, parser=parser, **dict(_NOT_GIVEN))
    parser.add_argument(
        "host",
        metavar="HOST",
        help=(
            "a name, an IPv4 or IPv6 address, the path of a UNIX socket (any text with a /), or an"
            " address as status prints it, such as tcp://127.0.0.1:7"
        ),
    )
    parser.add_argument(
        "port",
        metavar="PORT",
        nargs="?",
        type=_port,
        help=f"the port, 1 to 65535 (default: {default_port})",
    )
    parser.add_argument(
        "--timeout",
        dest="timeout_s",
        metavar="SECONDS",
        type=_seconds("timeout", 0, MAX_TIMEOUT_S),
        default=10.0,
        help=(
            "give up on a name, an address or a server that owes an answer after this time without"
            " progress (default: 10; 0: never)"
        ),
    )
    if udp:
        parser.add_argument(
            "--udp",
            action="store_true",
            help="send datagrams: over UDP, or to a UNIX datagram socket",
        )


def _add_measurement(echo: argparse.ArgumentParser) -> None:
    echo.add_argument(
        "--count",
        metavar="N",
        type=_number("count", 1, MAX_COUNT),
        help="measure round trips, in the way of ping, and end after N (default: at Ctrl-C)",
    )
    echo.add_argument(
        "--interval",
        dest="interval_s",
        metavar="SECONDS",
        type=_seconds("interval", MIN_INTERVAL_S, MAX_TIMEOUT_S),
        help="measure, with a request each SECONDS (default: 1)",
    )
    echo.add_argument(
        "--size",
        metavar="BYTES",
        type=_number("size", MIN_SIZE, MAX_SIZE),
        help="measure, with requests of this size (default: 56)",
    )
    echo.add_argument(
        "--bulk",
        dest="bulk_s",
        metavar="SECONDS",
        type=_seconds("duration", MIN_INTERVAL_S, MAX_BULK_S),
        help="measure the throughput both ways, for this time",
    )
    echo.add_argument(
        "--json", action="store_true", help="measure, and print the result as one JSON object"
    )


def _port(text: str) -> int:
    return _number("port", 1, 65535)(text)


def _number(word: str, least: int, most: int) -> Callable[[str], int]:
    """Return the type of an argument: a whole number from ``least`` to ``most``."""

    def number(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a {word}: give a number from {least} to {most}"
        )

    return number


def _seconds(word: str, least: float, most: float) -> Callable[[str], float]:
    """Return the type of an argument: seconds; 0 means no limit, as everywhere in
    unpd, where ``least`` allows it.
    """

    def seconds(text: str) -> float:
        try:
            seconds_s = float(text)
        except ValueError:
            seconds_s = -1.0
        if least <= seconds_s <= most:
            return seconds_s
        unlimited = " (no limit)" if least == 0 else ""
        article = "an" if word[0] in "aeiou" else "a"
        raise argparse.ArgumentTypeError(
            f"{text!r} is not {article} {word}: give seconds from {least:g}{unlimited} to {most:g}"
        )

    return seconds
