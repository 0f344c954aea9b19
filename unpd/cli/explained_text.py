"""The text that ``unpd explain`` prints for people, and the explanation from the rules
of a configuration file alone.

Called by the commands. Errors: UnpdError about the file, the service or the peer.
"""

from pathlib import Path

from unpd.cli.output import printable
from unpd.cli.tables import Values
from unpd.errors import WrongUsageError
from unpd.kernel.privileges import user_name
from unpd.wording import span_text

_OUTCOMES = {
    "admitted": "{peer} may use {service}",
    "refused": "{peer} may not use {service}",
    "waits": "{peer} would wait in the accept queue of {service}",
}
_RULES_OF = "by the rules of {rules_of} alone; no daemon was asked"
_PROXY = (
    "  by proxy_protocol, {proxy} is a load balancer: this holds for connections of its own, as for"
    " health checks; for others ask about the client that it tells"
)


def text(answer: Values) -> str:
    """The outcome, then a line for each rule or limit that was looked at. An answer
    from rules alone says so first.
    """
    outcome = _OUTCOMES.get(answer["outcome"], "{peer}: {service}: {outcome}").format(**answer)
    if answer["rules_of"] is not None:
        head = [_RULES_OF.format(**answer), outcome]
    else:
        head = [f"{outcome} now"]
    if answer["about"] != "connections":
        head.append("  this is about {about}".format(**answer))
    if answer["waits_for"] is not None:
        head.append("  {waits_for}".format(**answer))
    if answer["proxy"] is not None:
        head.append(_PROXY.format(**answer))
    checks = [f"  {_line(each, answer['denial'])}" for each in answer["checks"]]
    return "\n".join(map(printable, [*head, *checks]))


def _line(check: Values, denial: Values | None) -> str:
    resource = f".{check['resource']}" if check["resource"] else ""
    words = f"{check['reason']}{resource}: {_says(check)}{_compared(check)}"
    if check["rule"] is not None:
        words += f", by {check['rule']}{_place(check)}"
    if check["reason"] == "denied" and check["refuses"] and denial is not None:
        words += f", denied by {_who(denial)}"
    if check["frees_in_s"] is not None:
        words += f", for {span_text(check['frees_in_s'])}"
    return words


def _says(check: Values) -> str:
    if not check["known"]:
        return "not known"
    if not check["refuses"]:
        return "passes"
    if check["observed"]:
        return "would refuse, but is only observed"
    return "keeps clients waiting" if check["waits"] else "refuses"


def _compared(check: Values) -> str:
    if check["limit"] is None:
        return ""
    if check["value"] is None:
        return f" (the limit is {check['limit']:g})"
    return f" ({check['value']:g} of {check['limit']:g})"


def _who(denial: Values) -> str:
    if denial["uid"] is None:
        return f"the sensor {denial['service']}"
    reason = f": {denial['reason']}" if denial["reason"] else ""
    return f"{user_name(denial['uid'])}{reason}"


def _place(check: Values) -> str:
    if check["file"] is None:
        return ""
    line = f", line {check['line']}" if check["line"] else ""
    return f" ({check['file']}{line})"


def from_rules(path: Path, address: str, service: str) -> Values:
    """The fields of the answer from the rules of a configuration file. UnpdError."""
    # The modules of the configuration take long to import.
    import time  # noqa: PLC0415

    from unpd.access.decide import Moment  # noqa: PLC0415
    from unpd.access.explain import explain  # noqa: PLC0415
    from unpd.access.peer import parse_peer  # noqa: PLC0415
    from unpd.config.access_lists import THIS_HOST  # noqa: PLC0415
    from unpd.config.load import load  # noqa: PLC0415
    from unpd.config.wording import file_shown  # noqa: PLC0415
    from unpd.control.explained import Circumstances, fields_of, no_service  # noqa: PLC0415

    services = load(path).config.services
    if service not in services:
        raise WrongUsageError(no_service(service, services, file_shown(path)))
    try:
        peer = parse_peer(address, THIS_HOST)
    except ValueError as error:
        raise WrongUsageError(str(error)) from None
    at = Moment(0.0, time.time())
    explanation = explain(services[service].main_access, None, peer, at)
    known = Circumstances(about=services[service].main_uses, rules_of=file_shown(path))
    return fields_of(service, peer, explanation, at.now, known)
