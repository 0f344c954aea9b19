"""The proof that the watch over seccomp filters notices a refusal."""

import pytest

from tests.packaging.installed import Installed
from tests.packaging.seccomp import Watch

pytestmark = pytest.mark.packaging


def test_a_refused_call_is_seen(installed: Installed, watch: Watch) -> None:
    """The watch notices a system call that a filter refuses with EPERM, as the unit's
    filters do, even if the program ignores the error.
    """
    if not watch.possible:
        pytest.skip("needs a kernel with audit, and CAP_AUDIT_READ")
    filters = (
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "SystemCallErrorNumber=EPERM",
    )
    properties = [word for line in filters for word in ("--property", line)]
    harmless = "import contextlib, os\nwith contextlib.suppress(PermissionError): os.chroot('/')"
    before = len(watch.refusals())
    installed.machine.run(
        "systemd-run", "--quiet", "--wait", *properties, "/usr/bin/python3", "-c", harmless
    )
    assert len(watch.refusals()) == before + 1
