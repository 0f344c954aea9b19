"""``unpd client``: the arguments of the two clients, and the way to them.

Called by the parser and by dispatch; calls :mod:`unpd.cli.client.command`. Importing
this module costs next to nothing: a client imports the sockets, and all that belongs to
them, when it runs. Errors: argparse refuses wrong usage; a run ends with a ClientExit.
"""

import argparse

MAX_TIMEOUT_S = 86_400.0


def add_arguments(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command ``client`` and its two services to the command line; ``run``
    takes the parsed arguments.
    """
    client = commands.add_parser(
        "client",
        help="talk to a server: daytime, echo",
        allow_abbrev=False,
        description="Talk to a server of the classic small services.",
    )
    services = client.add_subparsers(dest="service", required=True, metavar="SERVICE")
    daytime = services.add_parser(
        "daytime",
        help="print the date and time of the server (RFC 867)",
        allow_abbrev=False,
        description="Print everything that the server sends until it closes.",
    )
    _add_server(daytime, default_port=13)
    daytime.set_defaults(raw=False)
    echo = services.add_parser(
        "echo",
        help="send standard input, print what comes back (RFC 862)",
        allow_abbrev=False,
        description=(
            "Send standard input line by line and print what comes back. At the end of the input,"
            " half-close the connection, and print the rest until the server closes."
        ),
    )
    _add_server(echo, default_port=7)
    echo.add_argument(
        "--raw",
        action="store_true",
        help="send standard input as it comes, without waiting for the end of a line",
    )


def run(args: argparse.Namespace) -> int:
    """Run the client that the arguments ask for; return a
    :class:`unpd.names.ClientExit`. Writes to descriptors 1 and 2, never to sys.stdout.
    """
    from unpd.names import ClientExit  # noqa: PLC0415 - see above

    try:
        from unpd.cli.client.command import Options, run_client  # noqa: PLC0415 - see above

        return run_client(
            Options(
                service=args.service,
                host=args.host,
                port=args.port,
                default_port=args.default_port,
                timeout_s=args.timeout_s,
                raw=args.raw,
            )
        )
    except KeyboardInterrupt:
        return ClientExit.INTERRUPTED


def _add_server(parser: argparse.ArgumentParser, *, default_port: int) -> None:
    parser.add_argument(
        "host",
        metavar="HOST",
        help=("a name, an IPv4 or IPv6 address, or the path of a UNIX socket (any text with a /)"),
    )
    parser.add_argument(
        "port",
        metavar="PORT",
        nargs="?",
        type=_port,
        help=f"TCP port, 1 to 65535 (default: {default_port})",
    )
    parser.add_argument(
        "--timeout",
        dest="timeout_s",
        metavar="SECONDS",
        type=_timeout_s,
        default=10.0,
        help=(
            "give up on a name, an address or a server that owes an answer after this time without"
            " progress (default: 10; 0: never)"
        ),
    )
    parser.set_defaults(default_port=default_port, parser=parser)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 1 to 65535")


def _timeout_s(text: str) -> float:
    """Return the seconds, up to a day; 0 means no limit, as everywhere in unpd."""
    try:
        timeout_s = float(text)
    except ValueError:
        timeout_s = -1.0
    if 0 <= timeout_s <= MAX_TIMEOUT_S:
        return timeout_s
    raise argparse.ArgumentTypeError(
        f"{text!r} is not a timeout: give seconds from 0 (no limit) to {MAX_TIMEOUT_S:.0f}"
    )
