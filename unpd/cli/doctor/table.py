"""The checks of ``unpd doctor``: one table, in the order of the report.

Read by the command, and by a test that compares the manual with it.
"""

from unpd.cli.doctor import (
    configuration,
    kernel_settings,
    limits,
    ports,
    queues,
    rights,
    service_unit,
    synchronisation,
)
from unpd.cli.doctor.finding import Check

CHECKS = (
    Check("configuration", "what unpd check says", configuration.configuration),
    Check("ports", "addresses that another process holds", ports.taken),
    Check("ephemeral", "ports that the kernel gives to outgoing connections", ports.ephemeral),
    Check("ipv6", "addresses of IPv6 on a host without it", ports.ipv6),
    Check("backlog", "the backlogs against net.core.somaxconn", queues.backlogs),
    Check("drops", "clients that the kernel has turned away", queues.losses),
    Check("queue", "accept queues that are full now", queues.full_queues),
    Check("datagrams", "datagrams that the kernel has dropped", queues.lost_datagrams),
    Check("descriptors", "open files against the connections of a worker", limits.descriptors),
    Check("pids", "the limits of cgroups and kernel against the processes", limits.pids),
    Check("processes", "RLIMIT_NPROC against the processes", limits.user_processes),
    Check(
        "stop",
        "TimeoutStopSec= of the unit against daemon.lame_duck_s and daemon.grace_s",
        service_unit.stop_timeout,
    ),
    Check("kill_mode", "KillMode= of the unit", service_unit.kill_mode),
    Check("drop_in", "an old programs.conf, with which unpd does not start", service_unit.drop_in),
    Check("writable", "files and directories that other users can change", rights.writable),
    Check(
        "usable",
        "a configuration that the daemon refuses, and places that it cannot use",
        rights.usable,
    ),
    Check("secrets", "variables of programs that every user can read", rights.readable_secrets),
    Check("control", "whether control.read_group reaches the socket", rights.control_directory),
    Check("clock", "whether the clock is synchronised", synchronisation.synchronised),
    Check("conntrack", "room in the table of connections", kernel_settings.conntrack),
    Check("overcommit", "strict accounting of memory", kernel_settings.overcommit),
    Check("overflow", "resets for full accept queues", kernel_settings.abort_on_overflow),
)
