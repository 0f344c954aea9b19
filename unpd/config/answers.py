"""Checks whether the answers of a service fit what a client may get that sends an empty
datagram, as the usual clients of daytime, time and qotd do.

Called by unpd.config.checks. Calls the table of services for the sizes of the answers.
Raises nothing: the warnings go to the findings.

Known gap: it knows nothing of the services of other packages, and nothing of sockets of
the service manager, whose address only a start can tell.
"""

import math

from unpd.config.addresses import UdpAddress
from unpd.config.findings import Findings
from unpd.config.schema import DEFAULT_AMPLIFICATION, Config, ServiceConfig
from unpd.kernel.senders import V4_HEADERS, V6_HEADERS
from unpd.services.table import ANSWER_SIZES, SERVICES


def check_answers(config: Config, findings: Findings) -> None:
    """Warn of each service with an answer that an empty datagram does not get."""
    for name, service in config.services.items():
        headers = _headers(service)
        # Faulty options have a placeholder.
        if headers and isinstance(service.options, SERVICES[service.type].options):
            sizes = ANSWER_SIZES[service.type](service.options)
            if sentence := _too_long(sizes, service.amplification, headers):
                findings.warning(("services", name, "amplification"), sentence)


def _headers(service: ServiceConfig) -> int:
    """The bytes of the headers of IP and UDP that a client of the service has at least;
    0 if the service has no UDP address, or if the answers depend on the datagrams.
    """
    hosts = [address for address in service.listen if isinstance(address, UdpAddress)]
    if not hosts or service.type not in ANSWER_SIZES:
        return 0
    with_v4 = any(
        not host.is_ipv6 or (host.is_wildcard and not service.ipv6_only) for host in hosts
    )
    return V4_HEADERS if with_v4 else V6_HEADERS


def _too_long(sizes: tuple[int, ...], amplification: float, headers: int) -> str:
    """A sentence about the answers that have more bytes than an empty datagram may get;
    "" if all fit.
    """
    room = int((amplification - 1) * headers)
    longest, count = max(sizes), sum(size > room for size in sizes)
    if not count:
        return ""
    needed = math.ceil(1 + longest / headers)
    answer = "the answer" if len(sizes) == 1 else "the answers"
    if needed <= DEFAULT_AMPLIFICATION:
        remedy = f"raise it to {needed}"
    elif amplification < DEFAULT_AMPLIFICATION:
        most = (DEFAULT_AMPLIFICATION - 1) * headers
        remedy = f"raise it to {DEFAULT_AMPLIFICATION} and shorten {answer} to {most} bytes"
    else:
        remedy = f"shorten {answer} to {room} bytes"
    subject = "the answer has" if len(sizes) == 1 else f"{count} of {len(sizes)} answers have up to"
    return (
        f"{amplification:g} allows {room} bytes in answer to an empty datagram, which the usual"
        f" client sends, but {subject} {longest} and would not be sent: {remedy}"
    )
