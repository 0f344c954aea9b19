"""Starts daemons for a test. The fixture ``launch`` in conftest is the only user."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.configs import compose, write_drop_in
from tests.support.daemon import COMMAND, StartOptions, Unpd
from tests.support.fork_server import ForkServer


class Launch:
    """Starts daemons for one test, and finishes all of them after it. ``server``: forks
    those that need no more; None: all are started as users start them.
    """

    def __init__(self, directory: Path, server: ForkServer | None = None) -> None:
        self.directory = directory
        self._server = server
        self._started: list[Unpd] = []

    def __call__(
        self,
        text: str = "",
        *,
        ready: bool = True,
        verbatim: bool = False,
        drop_ins: Mapping[str, str] | None = None,
        detached: bool = False,
        arguments: Sequence[str] = (),
        prefix: Sequence[str] = (),
        env: Mapping[str, str | None] | None = None,
        command: Sequence[str] = COMMAND,
        preexec: Callable[[], object] | None = None,
        pass_fds: Sequence[int] = (),
        listen_fds: Sequence[int] = (),
    ) -> Unpd:
        """Start unpd with the configuration ``text``, completed by :func:`compose`
        unless ``verbatim``. With ``ready``, wait until it is ready.

        ``drop_ins`` maps NAME to the text of conf.d/NAME.toml. ``detached`` runs ``unpd
        start`` instead of ``unpd run``.
        """
        directory = self.directory / f"unpd-{len(self._started)}"
        directory.mkdir()
        for name, drop_in in (drop_ins or {}).items():
            write_drop_in(directory / "unpd.toml", name, drop_in)
        log_file = directory / "unpd.log" if detached else None
        verb = arguments or (("start",) if detached else ("run",))
        setting = StartOptions(
            directory,
            self._server,
            command,
            verb,
            prefix,
            env or {},
            preexec,
            pass_fds,
            listen_fds,
            detached,
        )
        unpd = Unpd(setting, text if verbatim else compose(text, directory, log_file=log_file))
        self._started.append(unpd)
        if ready:
            unpd.wait_ready()
        return unpd

    def finish(self) -> list[str]:
        """Finish all daemons, the last one first. Return every problem found."""
        return [
            f"{unpd.directory.name}: {problem}"
            for unpd in reversed(self._started)
            for problem in unpd.finish()
        ]
