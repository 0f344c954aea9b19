"""Which children serve which listeners: the models of the services, as kinds.

A worker serves the streams of the services with the model event, and every datagram; a
dispatcher those that fork; an iterative worker those of one iterative service; a
launcher those of the services for which programs are started; a python dispatcher those
of one service that calls a function. Called by :mod:`unpd.master.children.kinds` and by
the watchdog. Owns nothing.
"""

import os
from collections.abc import Iterable

from unpd.config.addresses import FileAddress, InternetAddress, takes_datagrams
from unpd.config.service_types import service_type
from unpd.core.model import Slot
from unpd.master.listening.listener import OpenListener
from unpd.master.runtime import Deployment
from unpd.names import SINGLE_KINDS, ChildKind
from unpd.services.base import StreamService
from unpd.services.tcpmux import Tcpmux, TcpmuxOptions
from unpd.worker.event.datagram import OwnAddresses


def kind_of(deployment: Deployment, listener: OpenListener) -> ChildKind:
    """The kind of child that serves a listener of a service: datagrams are served by
    workers, unless their type has children of its own.
    """
    service = deployment.config.services[listener.wanted.service]
    if takes_datagrams(listener.address) and service.served_by is None:
        return ChildKind.WORKER
    return service.kind


def services_of(deployment: Deployment, kind: ChildKind, pool: str) -> list[str]:
    """The services of a pool of which children of a kind serve a listener, by name."""
    services = deployment.config.services
    return sorted(
        name
        for name, service in services.items()
        if service.pool == pool and listeners_of(deployment, kind, name)
    )


def services_of_slots(kind: ChildKind, deployment: Deployment, pool: str) -> tuple[str, ...]:
    """The service of each slot of a kind in a pool, where each slot serves another; ()
    where all serve the same.
    """
    return tuple(services_of(deployment, kind, pool)) if kind in SINGLE_KINDS else ()


def listeners_of(deployment: Deployment, kind: ChildKind, service: str) -> list[OpenListener]:
    """The listeners of a service that children of a kind serve."""
    return [one for one in deployment.listeners.of(service) if kind_of(deployment, one) is kind]


def identities_of(listeners: Iterable[OpenListener]) -> dict[str, tuple[str, str, int]]:
    """What distinguishes open listeners, by key: also the socket's inode, because a
    listener may have been opened again.
    """
    return {
        one.wanted.key: (one.wanted.service, one.text, os.fstat(one.sock.fileno()).st_ino)
        for one in listeners
    }


def served_by(deployment: Deployment, slot: Slot) -> list[str]:
    """The services of the child in a slot: one, where each slot serves another."""
    services = services_of(deployment, slot.kind, slot.pool)
    return services[slot.index :][:1] if slot.kind in SINGLE_KINDS else services


def needed_by(deployment: Deployment, services: Iterable[str]) -> list[str]:
    """The services that a child needs in order to serve ``services``: these, and those
    that a tcpmux among them offers.
    """
    found = dict.fromkeys(services)
    for name in list(found):
        options = deployment.config.services[name].options
        if isinstance(options, TcpmuxOptions):
            found |= dict.fromkeys(options.services)
    return list(found)


def make_services(deployment: Deployment, services: Iterable[str]) -> dict[str, StreamService]:
    """Make services, by name, with what they need."""
    configs = deployment.config.services
    made = {
        name: service_type(configs[name].type).make(configs[name].options)
        for name in needed_by(deployment, services)
    }
    for service in made.values():
        if isinstance(service, Tcpmux):
            service.offer(made)
    return made


def own_addresses(deployment: Deployment) -> OwnAddresses:
    """The addresses on which unpd itself listens, which get no datagram from us."""
    addresses = [listener.address for listener in deployment.listeners.opened.values()]
    return OwnAddresses(
        ports=frozenset(one.port for one in addresses if isinstance(one, InternetAddress)),
        paths=frozenset(one.kernel_path for one in addresses if isinstance(one, FileAddress)),
    )
