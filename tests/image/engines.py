"""Engines without any image or container: podman, and docker with its daemon, each in
namespaces of its own, in which nothing lies where an engine keeps what it has. Their
commands run there as a user types them, as root, in the source tree.

Only what stands in the way of an engine on some machines is configured otherwise:
podman's limits of descriptors and processes, and the health checks, whose timers need
systemd; docker's score for the out-of-memory killer, which not every root may lower;
and a registry without a certificate, whose name leads to this machine.
"""

import contextlib
import http.client
import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import ROOT
from tests.support.apart import Apart, apart
from tests.support.waiting import until

TOOLS = ("podman", "runc", "conmon", "docker", "dockerd", "docker-registry")
REGISTRY = "registry.example"
EMPTY = (
    "/dev/shm",  # noqa: S108 - podman's locks
    "/run",
    "/var/lib/cni",
    "/var/lib/containers",
    "/var/lib/docker",
)
RUN_S = 120.0
START_S = 60.0
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
CONTAINERS = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""
REGISTRIES = f"""
[[registry]]
location = "{REGISTRY}"
insecure = true
"""
KINDS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in ("oci.image.manifest.v1", "docker.distribution.manifest.v2")
)
"""How a registry may describe an image."""
SERVER = """
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {directory}}}}}
http: {{addr: 127.0.0.1:80}}
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine. ``name``: its command. ``directory``: for the logs of servers."""

    name: str
    apart: Apart
    directory: Path
    environment: Mapping[str, str]

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a line of the shell, and return all that it prints. AssertionError, with
        that, if it fails and ``check`` is set.
        """
        done = subprocess.run(
            [*self.apart.prefix, "sh", "-c", f"cd {shlex.quote(str(ROOT))} || exit\n{command}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            text=True,
            check=False,
            timeout=RUN_S,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{self.said()}"
        return done.stdout

    def start(self, command: str, log: str) -> None:
        """Start a server, which ends with the namespaces."""
        self.run(f"{command} >{shlex.quote(str(self.directory / log))} 2>&1 &")

    def said(self) -> str:
        """The end of what each server has logged."""
        logs = self.directory.glob("*.log")
        return "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in logs)

    def start_docker(self) -> None:
        """Start docker's daemon, and wait until it answers."""
        self.start("dockerd --oom-score-adjust 0", "dockerd.log")
        until(lambda: self._answers("docker version"), START_S, self.said)

    def _answers(self, command: str) -> bool:
        return self.run(f"{command} >/dev/null 2>&1 && echo yes", check=False) == "yes\n"

    def start_registry(self) -> None:
        """Start a registry, and wait until it answers."""
        config = self.directory / "registry.yml"
        config.write_text(SERVER.format(directory=self.directory / "registry"))
        self.start(f"docker-registry serve {shlex.quote(str(config))}", "registry.log")
        until(lambda: self.ask_registry("/v2/") is not None, START_S, self.said)

    def ask_registry(self, path: str) -> Any:
        """What the registry answers to a GET. None while it does not run."""
        with self.apart.network():
            connection = http.client.HTTPConnection("127.0.0.1", timeout=10.0)
            with contextlib.closing(connection):
                try:
                    connection.request("GET", path, headers={"Accept": KINDS})
                except ConnectionRefusedError:
                    return None
                answer = connection.getresponse()
                assert answer.status == http.client.OK, path
                return json.loads(answer.read())


@contextlib.contextmanager
def without_images(name: str, directory: Path) -> Iterator[Engine]:
    """Start an engine that has no image, "podman" or "docker", for the length of the
    block. ``directory`` is empty.
    """
    files = {
        "hosts": f"127.0.0.1 localhost {REGISTRY}\n",
        "containers.conf": CONTAINERS,
        "registries.conf": REGISTRIES,
    }
    for file, text in files.items():
        (directory / file).write_text(text)
    environment = {
        "PATH": PATH,
        "HOME": str(directory),
        "LC_ALL": "C",
        "DISABLE_HC_SYSTEMD": "true",
        "CONTAINERS_CONF": str(directory / "containers.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(directory / "registries.conf"),
    }
    mounts = [f"mkdir -p {path} && mount -t tmpfs -o mode=0755 tmpfs {path}" for path in EMPTY]
    hosts = f"mount --bind {shlex.quote(str(directory / 'hosts'))} /etc/hosts"
    with apart(" && ".join([*mounts, hosts])) as made:
        engine = Engine(name, made, directory, environment)
        if name == "docker":
            engine.start_docker()
        try:
            yield engine
        finally:
            engine.run(f"{name} rm --force $({name} ps --all --quiet)", check=False)
