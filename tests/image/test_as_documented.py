"""The README's section "In a container" and its rows of the image and of the manifests,
word for word, as root with podman and with docker, which have no image yet.

``make test-image`` has run the first command, ``make image``.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.engines import TOOLS, Engine, without_images
from tests.support import clients, documented, faults
from tests.support.waiting import until
from unpd import __version__

pytestmark = [pytest.mark.packaging, faults.requires_namespaces()]

SECTION = "In a container"
_, LOAD = documented.ways_to_install()["the image"][0]
(PUSH,) = documented.ways_to_install()["manifests"][0]
READY_S = 60.0


@pytest.fixture
def engine(
    request: pytest.FixtureRequest, no_process_left: None, tmp_path: Path
) -> Iterator[Engine]:
    """The engine of the parameter, without an image."""
    missing = [tool for tool in TOOLS if faults.find_tool(tool) is None]
    assert not missing, f"the tests of the image need {missing}: packaging/install check-image"
    with without_images(request.param, tmp_path) as engine:
        yield engine


def for_docker(command: str) -> str:
    """A command of podman as the README says that docker takes it."""
    return command.replace("podman ", "docker ", 1).replace(" --read-only-tmpfs=false", "")


@pytest.mark.parametrize("engine", ["podman", "docker"], indirect=True)
def test_in_a_container(engine: Engine) -> None:
    """A container serves on the published ports, says so in its log and its status, and
    is reloaded in both ways.
    """
    typed = [command for command, _ in documented.typed(SECTION)]
    hup, reload, _ = documented.mentioned(SECTION, "podman")
    commands = [*typed, hup, reload]
    if engine.name == "docker":
        commands = [for_docker(command) for command in commands]
    load, run, logs, status, hup, reload = commands
    assert typed[0] == LOAD
    engine.run(load)
    engine.run(run)
    until(lambda: "master.ready" in engine.run(logs), READY_S, lambda: engine.run(logs))
    with engine.apart.network():
        assert len(clients.ask(("127.0.0.1", 13)).split()) == 5
        assert clients.converse(("127.0.0.1", 7), b"hello") == b"hello"
    assert engine.run(status).startswith(f"unpd {__version__}: ready, pid 1, generation 1,")
    engine.run(hup)
    until(lambda: "generation 2," in engine.run(status), READY_S, lambda: engine.run(logs))
    assert "generation 3" in engine.run(reload)


@pytest.mark.parametrize("engine", ["podman"], indirect=True)
def test_a_registry_takes_it(engine: Engine) -> None:
    """What the registry then has is the image."""
    engine.run(LOAD)
    engine.start_registry()
    engine.run(PUSH)
    name, _, tag = PUSH.split()[-1].partition("/")[2].partition(":")
    manifest = engine.ask_registry(f"/v2/{name}/manifests/{tag}")
    local = engine.run("podman images --quiet --no-trunc").strip()
    assert manifest["config"]["digest"] == local
