"""The commands that ask a running daemon: one table.

``COMMANDS`` has the names of :data:`unpd.control.verbs.VERBS`, which a test compares.
Called by dispatch. Calls the commands of the verbs.
"""

import argparse
from collections.abc import Callable, Mapping
from types import MappingProxyType

from unpd.cli import change_commands, client_commands, life_commands, trying

COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = MappingProxyType(
    {
        "stop": life_commands.stop,
        "reload": life_commands.reload,
        "status": life_commands.status,
        "workers": life_commands.workers,
        "listeners": life_commands.listeners,
        "events": life_commands.events,
        "wait": life_commands.wait,
        "deny": client_commands.deny,
        "undeny": client_commands.undeny,
        "denied": client_commands.denied,
        "explain": client_commands.explain,
        "connections": client_commands.connections,
        "kick": client_commands.kick,
        "pause": change_commands.pause,
        "resume": change_commands.resume,
        "drain": change_commands.drain,
        "log-level": change_commands.log_level,
        "scale": change_commands.scale,
        "try": trying.try_,
    }
)
"""The command of each verb."""
