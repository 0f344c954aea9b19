"""A package upgrade under a running daemon. The daemon no longer needs the files of the
program.
"""

import shutil
import sys
from pathlib import Path

from tests.support import ROOT, clients, procs
from tests.support.launch import Launch
from tests.support.operating import reload

CONFIG = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""

MORE = """
[services.daytime]
listen = ["tcp://127.0.0.1:0"]
format = "rfc867"
timezone = "Europe/Berlin"
"""


def test_a_daemon_whose_program_is_deleted_goes_on(launch: Launch, tmp_path: Path) -> None:
    """After the program's files are deleted, children are respawned, a reload adds a
    service that was not used before, scrapes work, and the stop is clean.
    """
    program = tmp_path / "program"
    shutil.copytree(ROOT / "unpd", program / "unpd", ignore=shutil.ignore_patterns("__pycache__"))
    (program / "unpd" / "__init__.py").write_text('__version__ = "0.0.0"\n')
    start = (
        f"import sys; sys.path.insert(0, {str(program)!r}); from unpd.cli.main import main;"
        " sys.exit(main())"
    )
    unpd = launch(CONFIG, command=(sys.executable, "-c", start))
    shutil.rmtree(program)
    assert unpd.total("unpd_build_info", version="0.0.0") == 1, "the copy is what runs"

    workers, exporter = unpd.workers(), unpd.exporter()
    assert exporter is not None
    procs.kill([*workers, exporter])
    unpd.wait_respawned(workers)
    unpd.wait_event("exporter.ready", after=1)
    assert clients.converse(unpd.address("echo"), b"still here") == b"still here"

    assert reload(unpd, unpd.config_path.read_text() + MORE) == 2
    assert clients.ask(unpd.address("daytime")).endswith(b"\r\n")
    unpd.metric_becomes(1, "unpd_connections_accepted_total", service="daytime")
    assert unpd.stop() == 0
