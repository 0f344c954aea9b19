"""Checks what the services of type tcpmux offer.

Called by unpd.config.checks. Calls the schema and the table of services. Raises
nothing: errors and warnings go to the findings.
"""

from unpd.config.access import OBSERVABLE
from unpd.config.findings import Findings
from unpd.config.refusals import limits_of
from unpd.config.schema import Config, ServiceConfig
from unpd.config.service_types import kinds_of
from unpd.errors import quoted
from unpd.services.redirect import RedirectOptions
from unpd.services.sensor import SensorOptions
from unpd.services.tcpmux import HELP, TcpmuxOptions


def check_offers(config: Config, findings: Findings) -> None:
    """Refuse a tcpmux that offers nothing, or a service that it cannot. Warn where a
    client gets a service through tcpmux that would refuse it.
    """
    for name, service in config.services.items():
        if not isinstance(service.options, TcpmuxOptions):
            continue
        path = ("services", name, "services")
        if not service.options.services:
            findings.error(
                path, 'must name the services that it offers, such as services = ["echo"]'
            )
        for offered in service.options.services:
            if sentence := _why_not_offered(config, service, offered, findings):
                findings.error(path, sentence)
            elif own := _rules_of_its_own(config.services[offered], service):
                findings.warning(
                    path,
                    f"{quoted(offered)} has {', '.join(own)}, but for a client that comes through"
                    " tcpmux only the keys of tcpmux decide",
                )


def _why_not_offered(config: Config, mux: ServiceConfig, offered: str, findings: Findings) -> str:
    """Why a tcpmux cannot offer a service; "" if it can."""
    service = config.services.get(offered)
    if service is None:
        advice = findings.advice(offered, config.services, "add its table or remove the name")
        return f"there is no service {quoted(offered)}{advice}"
    if service.pool != mux.pool:
        return (
            f"{quoted(offered)} is in the pool {quoted(service.pool)}, but a tcpmux offers only"
            f" services of its own pool, {quoted(mux.pool)}"
        )
    if isinstance(service.options, TcpmuxOptions):
        return f"{quoted(offered)} is itself of type tcpmux"
    if isinstance(service.options, SensorOptions):
        return f"{quoted(offered)} is a sensor, which denies nobody that comes through tcpmux"
    if isinstance(service.options, RedirectOptions):
        return f"{quoted(offered)} is a redirect, which takes its clients from listeners only"
    if not kinds_of(service.type)[0]:
        return f"{quoted(offered)} serves no streams"
    if service.served_by is not None:
        return (
            f"{quoted(offered)} is of type {quoted(service.type)}, but a tcpmux offers only"
            " services that workers serve"
        )
    if service.model != "event":
        return (
            f"{quoted(offered)} has the model {quoted(service.model)}, but a tcpmux offers only"
            ' services of the model "event"'
        )
    if offered == HELP:
        return f"the name {quoted(HELP)} asks a tcpmux for its services (RFC 1078)"
    return ""


def _rules_of_its_own(offered: ServiceConfig, mux: ServiceConfig) -> list[str]:
    """The keys by which a service may refuse a client that its tcpmux accepts."""
    return [
        key for key in limits_of(offered, OBSERVABLE) if getattr(offered, key) != getattr(mux, key)
    ]
