"""A fake service manager for one daemon. It listens on NOTIFY_SOCKET, keeps stored
descriptors, and passes descriptors as systemd does (sd_notify(3), sd_listen_fds(3)).

The fixture ``systemd`` provides it to the tests of activation, notification and the
descriptor store. It reads its socket only when the test asks, so nothing runs beside
the test.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import procs
from tests.support.daemon import READY_S, Unpd
from tests.support.launch import Launch
from tests.support.waiting import until


@dataclass(slots=True)
class FakeSystemd:
    """The state of one unit. ``said`` holds every assignment received, in order;
    ``store`` the stored descriptors; ``sockets`` the listeners of its socket units.
    """

    path: str
    receiver: socket.socket
    said: list[tuple[str, str]] = field(default_factory=list)
    store: list[tuple[str, int]] = field(default_factory=list)
    sockets: list[tuple[str, int]] = field(default_factory=list)

    def start(
        self,
        launch: Launch,
        text: str = "",
        *,
        watchdog_s: float = 0.0,
        stores: bool = True,
        **options: Any,
    ) -> Unpd:
        """Start the daemon as the main process, with the stored and the passed
        descriptors.
        """
        self.hear()
        passed = [*self.sockets, *self.store]
        env: dict[str, str | None] = {
            "NOTIFY_SOCKET": self.path,
            "FDSTORE": "512" if stores else None,
        }
        if passed:
            env |= {
                "LISTEN_FDS": str(len(passed)),
                "LISTEN_FDNAMES": ":".join(name for name, _ in passed),
            }
        if watchdog_s:
            env |= {"WATCHDOG_USEC": str(round(watchdog_s * 1_000_000))}
        ready = options.pop("ready", True)
        unpd = launch(
            text,
            listen_fds=[fd for _, fd in passed],
            env=env | options.pop("env", {}),
            ready=False,
            **options,
        )
        if ready:
            until(
                lambda: (
                    self.hear() is not None
                    and (unpd.log_events("master.ready") or unpd.process.poll() is not None)
                ),
                READY_S,
                "the start to end",
            )
            unpd.wait_ready()
        return unpd

    def kill(self, unpd: Unpd) -> None:
        """Simulate a crash: SIGKILL to the main process, then to the rest of its
        unit.
        """
        unpd.expect_exit(-signal.SIGKILL)
        os.kill(unpd.pid, signal.SIGKILL)
        unpd.wait_exit()
        procs.kill(unpd.sessions())  # they do not die with their parents
        until(
            lambda: not [process for process in unpd.family() if not process.zombie],
            5.0,
            "the unit's processes to end",
        )
        procs.kill_and_reap(process for process in unpd.family() if process.pid != os.getpid())

    def hear(self) -> list[tuple[str, str]]:
        """Receive every waiting message. Return all assignments received so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                said, fds, _, _ = socket.recv_fds(self.receiver, 8192, 16)
                pairs = [
                    (name, value)
                    for name, _, value in (
                        line.partition("=") for line in said.decode().splitlines()
                    )
                ]
                self.said += pairs
                self._obey(dict(pairs), fds)
        return self.said

    def _obey(self, message: dict[str, str], fds: Sequence[int]) -> None:
        name = message.get("FDNAME", "stored")
        if "BARRIER" in message:
            for fd in fds:
                os.close(fd)
        if "FDSTORE" in message:
            known = [os.fstat(fd).st_ino for _, fd in self.store]
            for fd in fds:
                if os.fstat(fd).st_ino in known:
                    os.close(fd)
                else:
                    self.store.append((name, fd))
        if "FDSTOREREMOVE" in message:
            for _, fd in [stored for stored in self.store if stored[0] == name]:
                os.close(fd)
            self.store[:] = [stored for stored in self.store if stored[0] != name]

    def heard(self, name: str) -> list[str]:
        """Return every value received for ``name``."""
        return [value for said, value in self.hear() if said == name]

    def wait(
        self, name: str, value: str | None = None, *, after: int = 0, timeout_s: float = 10.0
    ) -> str:
        """Return the first ``name`` with that value after the first ``after``
        assignments of that name, and wait for it if needed.
        """

        def there() -> list[str]:
            return [heard for heard in self.heard(name)[after:] if value is None or heard == value]

        return until(
            there,
            timeout_s,
            lambda: f"{name}={value or ''} after {after}; received were {self.said}",
        )[0]

    def listen(self, name: str, sock: socket.socket) -> tuple[str, int]:
        """Add a socket unit. Its socket is passed as ``name`` at each start, and
        outlives the daemon. Return a TCP socket's address.
        """
        address: tuple[str, int] = sock.getsockname()[:2]
        self.sockets.append((name, sock.detach()))
        return address

    def empty(self) -> None:
        """Close the stored descriptors, as when the unit has stopped."""
        while self.store:
            os.close(self.store.pop()[1])

    def close(self) -> None:
        """End the service manager."""
        self.hear()
        self.empty()
        while self.sockets:
            os.close(self.sockets.pop()[1])
        self.receiver.close()


@contextlib.contextmanager
def fake_systemd(directory: Path, *, abstract: bool = False) -> Iterator[FakeSystemd]:
    """Provide a service manager whose socket is in ``directory``, or ``abstract``."""
    path = f"@unpd-test-{directory}-{os.getpid()}"[-100:] if abstract else str(directory / "notify")
    path = f"@{path.lstrip('@')}" if abstract else path
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    receiver.bind(f"\0{path[1:]}" if abstract else path)
    found = FakeSystemd(path, receiver)
    try:
        yield found
    finally:
        found.close()
