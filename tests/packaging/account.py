"""A user of a machine, and the steps that ``unpd install-units`` prints for one."""

from collections.abc import Mapping
from dataclasses import dataclass
from subprocess import CompletedProcess, Popen

from tests.packaging.machine import RUN_S, Machine


@dataclass(frozen=True, slots=True)
class Account:
    """Logs in for each command. ``become``: the command that does."""

    machine: Machine
    become: tuple[str, ...]

    def run(
        self, command: str, *, check: bool = True, timeout_s: float = RUN_S
    ) -> CompletedProcess[str]:
        """Run a line of the shell, with what a profile sets."""
        return self.machine.run(
            *self.become, "sh", "-l", "-c", command, check=check, timeout_s=timeout_s
        )

    def start(self, command: str) -> Popen[str]:
        """Start a line of the shell in the same way, and return at once."""
        return self.machine.start(*self.become, "sh", "-l", "-c", command)

    def follow(self, printed: str) -> None:
        """Run the commands that ``unpd install-units`` has printed. The files that it
        names must be there already.
        """
        steps = [line.strip() for line in printed.partition("\nnext:\n")[2].splitlines()]
        assert steps
        for step in steps:
            # Without polkit and a session, only root may let a user linger.
            if not step.startswith(("write ", "loginctl ")):
                self.run(step)


def root(machine: Machine, variables: Mapping[str, str]) -> Account:
    """Root, with these variables of the environment."""
    return Account(machine, ("env", *_assignments(variables)))


def user(machine: Machine, name: str, variables: Mapping[str, str]) -> Account:
    """A new user with a home directory, whose systemd runs."""
    machine.run("useradd", "--create-home", name)
    uid = machine.run("id", "--user", name).stdout.strip()
    machine.run("systemctl", "start", f"user@{uid}.service")
    own = {"HOME": f"/home/{name}", "XDG_RUNTIME_DIR": f"/run/user/{uid}", **variables}
    become = ("setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups")
    return Account(machine, (*become, "env", "--chdir", own["HOME"], *_assignments(own)))


def _assignments(variables: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in variables.items()]
