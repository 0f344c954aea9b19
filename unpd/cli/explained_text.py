"""The text that ``unpd explain`` prints for people, and the explanation from the rules
of a configuration file alone.

Called by unpd.cli.verbs. Errors: UnpdError about the file, the service or the peer.
"""

from pathlib import Path
from typing import Any

from unpd.cli.output import printable
from unpd.errors import UnpdError, quoted

Values = dict[str, Any]

_OUTCOMES = {
    "admitted": "{peer} may use {service} now",
    "refused": "{peer} may not use {service} now",
    "waits": "{peer} would wait in the accept queue of {service} now",
}
_PROXY = (
    "  by proxy_protocol, {proxy} is a load balancer: this holds for connections of its own, as for"
    " health checks; for others ask about the client that it tells"
)


def text(answer: Values) -> str:
    """The outcome, then a line for each rule or limit that was looked at."""
    head = [_OUTCOMES.get(answer["outcome"], "{peer}: {service}: {outcome}").format(**answer)]
    if answer["about"] != "connections":
        head.append("  this is about {about}".format(**answer))
    if answer["proxy"] is not None:
        head.append(_PROXY.format(**answer))
    return "\n".join(map(printable, [*head, *(f"  {_line(each)}" for each in answer["checks"])]))


def _line(check: Values) -> str:
    words = f"{check['reason']}: {_says(check)}"
    if check["value"] is not None and check["limit"] is not None:
        words += f" ({check['value']:g} of {check['limit']:g})"
    if check["rule"] is not None:
        words += f", by {check['rule']}{_place(check)}"
    if check["frees_in_s"] is not None:
        words += f", until {check['frees_in_s']:g} s from now"
    return words


def _says(check: Values) -> str:
    if not check["refuses"]:
        return "passes"
    if check["observed"]:
        return "would refuse, but is only observed"
    return "keeps clients waiting" if check["waits"] else "refuses"


def _place(check: Values) -> str:
    if check["file"] is None:
        return ""
    line = f", line {check['line']}" if check["line"] else ""
    return f" ({check['file']}{line})"


def from_rules(path: Path, address: str, service: str) -> Values:
    """The fields of the answer that a daemon with this configuration would give while
    nobody uses it. UnpdError.
    """
    # The modules of the configuration take long to import.
    import time  # noqa: PLC0415

    from unpd.access.decide import Moment  # noqa: PLC0415
    from unpd.access.explain import NoCounts, explain  # noqa: PLC0415
    from unpd.access.peer import parse_peer  # noqa: PLC0415
    from unpd.config.access_lists import THIS_HOST  # noqa: PLC0415
    from unpd.config.load import load  # noqa: PLC0415
    from unpd.config.wording import file_shown, quoted_list  # noqa: PLC0415
    from unpd.control.explained import fields_of  # noqa: PLC0415

    services = load(path).config.services
    if service not in services:
        raise UnpdError(
            f"{file_shown(path)} has no service {quoted(service)}; it has {quoted_list(services)}"
        )
    try:
        peer = parse_peer(address, THIS_HOST)
    except ValueError as error:
        raise UnpdError(str(error)) from None
    at = Moment(0.0, time.time())
    explanation = explain(services[service].main_access, NoCounts(), peer, at)
    fields = fields_of(service, peer, explanation, at.now)
    return {**fields, "about": services[service].main_uses}
