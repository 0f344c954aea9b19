"""Heirlooms: the descriptors that programs share with all launchers of their lane.

Programs outlive their launcher. The next one has to learn which of their clients have
gone, and to read their standard error; and while there is none, nobody may close the
reading end of that. So the master makes these, keeps them in the lane
(:mod:`unpd.master.children.lanes`), and each launcher of the lane inherits them.

Owns the descriptors. Raises OSError if the kernel refuses them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from unpd.kernel.hangups import Hangups
from unpd.kernel.shared_stderr import SharedStderr


@dataclass(frozen=True, slots=True)
class Heirlooms:
    """``stderrs``: the standard error of the programs of each service whose lines go to
    the log, by its column.
    """

    hangups: Hangups
    stderrs: Mapping[int, SharedStderr]

    @classmethod
    def make(cls, columns: Iterable[int]) -> Self:
        """Make them for a new lane. ``columns``: the services whose programs write
        their standard error to the log.
        """
        return cls(Hangups(), {column: SharedStderr() for column in columns})

    def stderr_fd(self, column: int) -> int | None:
        """Where the programs of a service write their standard error; None: to their
        clients.
        """
        return self.stderrs[column].fd if column in self.stderrs else None

    @property
    def fds(self) -> tuple[int, ...]:
        """All descriptors."""
        return (self.hangups.fd, *(fd for stderr in self.stderrs.values() for fd in stderr.fds))

    def close(self) -> None:
        """Close our descriptors of them."""
        self.hangups.close()
        for stderr in self.stderrs.values():
            stderr.close()
