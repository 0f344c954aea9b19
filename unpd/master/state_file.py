"""The file in which live denials outlast the master (``access.state_file``).

Owns the file: reads it at the start, replaces it after changes, and sets a damaged one
aside. :mod:`unpd.access.stored_denials` has its format. Called by
:class:`unpd.master.deny_list.DenyList`. Raises nothing: a fault is logged, and stands
among the faults of the daemon while the denials cannot be saved.

A file is replaced by a new one, with rename(2): a reader, or the next master after a
crash of this one, finds the old text or the new one, and never a part. There is no
fsync(2), because the master waits for no disk; after a loss of power the file may have
older denials, or be damaged, which the next start reports.

The directory may belong to the user of the children. So no symbolic link is followed,
and the new file is made under a name that nobody has taken.

A file of somebody else is neither read nor replaced nor moved away, however it came to
this path; :mod:`unpd.config.denials_file` refuses a configuration that names one.

Known gap: two daemons with the same file overwrite each other's denials.
"""

import contextlib
import os
import stat
import time
from collections.abc import MutableMapping

from unpd.access.denials import Denials
from unpd.access.stored_denials import MAX_BYTES, BadLine, Storer, may_be_ours, restore
from unpd.logs import Log
from unpd.names import Fault

MODE = 0o600
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPARE_NAMES = 100

Faults = MutableMapping[tuple[Fault, str], str]


class StateFile:
    """The file at ``path``. ``faults``: those of the daemon."""

    def __init__(self, path: str, log: Log, faults: Faults) -> None:
        self.path = path
        self._log = log
        self._faults = faults
        self._storer = Storer()
        self._usable = True
        self._error = ""

    def load(self, denials: Denials, now: float) -> bool:
        """Add the denials of the file to the list. Whether all is well: else the file
        was damaged, and has to be written anew.
        """
        try:
            content = self._read()
        except FileNotFoundError:
            return True
        except OSError as error:
            self._leave(f"it cannot be read, and stays as it is: {error.strerror or error}")
            return False
        if len(content) > MAX_BYTES:
            bad = [BadLine(0, f"it has more than {MAX_BYTES} bytes")]
        else:
            text = content.decode("utf-8", "surrogateescape")
            bad = restore(text, denials, now, _epoch_s(now))
            self._log.event("denials.restored", file=self.path, denials=len(denials))
        if bad:
            self._report(bad)
        return not bad

    def _read(self) -> bytes:
        """The content, or more than MAX_BYTES of it. OSError also for a file that is
        not ours to replace.
        """
        if not stat.S_ISREG(os.lstat(self.path).st_mode):
            raise OSError("it is no plain file")
        with open(os.open(self.path, _READ), "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if not may_be_ours(content):
            raise OSError("it holds something else than live denials")
        return content

    def _leave(self, reason: str) -> None:
        """Neither replace the file nor move it away."""
        self._usable = False
        self._fail(reason)

    def _report(self, bad: list[BadLine]) -> None:
        """Keep the damaged file, and log what is wrong with it."""
        try:
            kept = self._set_aside()
        except OSError as error:
            kept = ""
            self._leave(f"the file is damaged, and cannot be moved away: {error.strerror or error}")
        self._log.event(
            "denials.damaged",
            file=self.path,
            line=bad[0].number,
            reason=bad[0].reason,
            lines=len(bad),
            kept=kept,
        )

    def _set_aside(self) -> str:
        """Give the file another name, which no file has; return that. OSError."""
        names = (f"{self.path}.broken{number}" for number in ("", *range(2, _SPARE_NAMES)))
        for name in names:
            if not os.path.lexists(name):
                os.rename(self.path, name)
                return name
        raise OSError(f"there are {_SPARE_NAMES} like it already")

    def save(self, denials: Denials, now: float) -> bool:
        """Write the list; whether that succeeded."""
        if not self._usable:
            return False
        text = self._storer.text(denials, _epoch_s(now))
        try:
            self._replace(text.encode())
        except OSError as error:
            self._fail(error.strerror or str(error))
            return False
        self._faults.pop((Fault.DENIALS_NOT_SAVED, ""), None)
        self._error = ""
        return True

    def _replace(self, content: bytes) -> None:
        new = f"{self.path}.{os.getpid()}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        try:
            with open(os.open(new, _MAKE, MODE), "wb") as file:
                file.write(content)
            os.rename(new, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise

    def _fail(self, error: str) -> None:
        self._faults[Fault.DENIALS_NOT_SAVED, ""] = (
            f"the live denials cannot be written to {self.path}: {error}"
        )
        if error != self._error:
            self._error = error
            self._log.event("denials.not_saved", file=self.path, error=error)

    def forget(self) -> None:
        """Remove our fault: the configuration names another file, or none."""
        self._faults.pop((Fault.DENIALS_NOT_SAVED, ""), None)


def _epoch_s(now: float) -> float:
    """When the clock of ``now`` was 0, in seconds since the epoch."""
    return time.time() - now
