"""Checks of the texts that several verbs take. Each raises ValueError, with one
sentence, for a text that cannot be meant.

They import what they need when they are called, because most commands check no text,
and imports are most of what a short command costs.
"""


def network(text: str) -> object:
    """Check an address or a network."""
    from unpd.access.network import Network  # noqa: PLC0415 - see above

    return Network.parse(text)


def client(text: str) -> object:
    """Check the address of a client, or what stands for one. A user is looked up by the
    daemon alone, on its own host.
    """
    from unpd.access.peer import UID, parse_address  # noqa: PLC0415 - see above

    if not text.startswith(UID):
        parse_address(text)
    return text


def span(text: str) -> object:
    """Check a span of time such as "10m"."""
    from unpd.control.spans import span_s  # noqa: PLC0415 - see above

    return span_s(text)


def timeout(text: str) -> object:
    """Check a timeout, such as "10s" or "10"."""
    from unpd.control.spans import timeout_s  # noqa: PLC0415 - see above

    return timeout_s(text)


def denial_reason(text: str) -> object:
    """Check the reason of a denial."""
    from unpd.access.denials import checked_reason  # noqa: PLC0415 - see above

    return checked_reason(text)
