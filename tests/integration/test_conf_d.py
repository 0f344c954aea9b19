"""Drop-ins in conf.d: what they add to the configuration, to ``unpd check`` and to a
reload.
"""

import tomllib
from pathlib import Path

from tests.support import clients, loads, procs
from tests.support.configs import DEFAULT_SERVICES, write_drop_in
from tests.support.launch import Launch
from tests.support.operating import refused_reload, reload
from tests.support.waiting import until

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""

DAYTIME = """
[services.daytime]
listen = ["tcp://127.0.0.1:0"]
"""

LEVEL = '[log]\nlevel = "{}"\n'


def test_check_knows_drop_ins(launch: Launch) -> None:
    """``unpd check`` reads the drop-ins in the order of their names, and ``--show``
    prints the merged configuration.
    """
    unpd = launch(
        ECHO,
        drop_ins={
            "20-b": "[daemon]\ngrace_s = 2\n",
            "10-a": f"[daemon]\ngrace_s = 1\nreload_grace_s = 1\n{DAYTIME}",
        },
    )
    shown = tomllib.loads(
        unpd.run("check", "--show", "--config", str(unpd.config_path)).stdout.decode()
    )
    assert (shown["daemon"]["grace_s"], shown["daemon"]["reload_grace_s"]) == (2, 1)
    assert set(shown["services"]) == {"echo", "daytime"}


def test_check_reports_the_faults_of_every_file(launch: Launch) -> None:
    """Each fault names the file of its key. A service that is in two files names
    both.
    """
    unpd = launch(ECHO)
    level, twice = (
        write_drop_in(unpd.config_path, "a", LEVEL.format("loud")),
        write_drop_in(unpd.config_path, "b", ECHO),
    )
    ended = unpd.run("check", "--config", str(unpd.config_path))
    said = ended.stderr.decode().splitlines()
    assert ended.returncode == 78
    assert said[0] == f'unpd: {level}:2: log.level: must be "debug", "info", "warning" or "error"'
    assert said[1].startswith(
        f"unpd: {twice}:2: services.echo: this service is in {unpd.config_path}:2 too, "
    )


def test_the_log_says_how_many_were_loaded(launch: Launch) -> None:
    """The daemon starts with its drop-ins. The first line of its log names the main
    file and the number of drop-ins.
    """
    unpd = launch("[services]\n", drop_ins={"a": ECHO, "b": "", "c": "# nothing\n"})
    loaded = unpd.log_events("config.loaded")[0].fields
    assert (loaded["source"], loaded["drop_ins"]) == (str(unpd.config_path), 3)
    assert clients.converse(unpd.address("echo"), b"here") == b"here"


def test_a_reload_takes_drop_ins_that_come_change_and_go(launch: Launch) -> None:
    """A drop-in that was added, changed or removed takes effect at the next reload."""
    unpd = launch(ECHO)
    added = write_drop_in(unpd.config_path, "clock", DAYTIME)
    assert reload(unpd) == 2
    assert clients.ask(unpd.address("daytime")).endswith(b"\r\n")
    write_drop_in(unpd.config_path, "clock", f'{DAYTIME}format = "iso8601"\ntimezone = "UTC"\n')
    assert reload(unpd) == 3
    daytime = unpd.address("daytime")
    until(
        lambda: clients.ask(daytime).endswith(b"+00:00\r\n"),
        10.0,
        "the old generation to leave the listener to the new one",
    )
    port = unpd.port("daytime")
    added.unlink()
    assert reload(unpd) == 4
    until(lambda: clients.refuses(port), 10.0, "the removed service's port to be closed")
    assert clients.converse(unpd.address("echo"), b"here") == b"here"


def test_a_service_twice_is_refused_and_the_old_generation_goes_on(launch: Launch) -> None:
    """A drop-in that repeats a service is refused with the names of both files. No
    client notices, and without the drop-in the next reload succeeds.
    """
    unpd = launch(ECHO)
    children = {child.pid for child in procs.children(unpd.pid)}
    with loads.running(unpd.address("echo"), rate=200) as load:
        twice = write_drop_in(unpd.config_path, "twice", ECHO)
        reason = refused_reload(unpd)
        assert f"{twice}:2: services.echo: this service is in {unpd.config_path}:2 too, " in reason
        load.more(1)
        result = load.stop()
    result.assert_clean(at_least=1)
    assert {child.pid for child in procs.children(unpd.pid)} == children
    assert unpd.metric("unpd_generation") == 1
    assert unpd.metric("unpd_config_last_reload_successful") == 0
    twice.unlink()
    assert reload(unpd) == 2


def test_commands_follow_a_drop_in_to_the_control_socket(launch: Launch, tmp_path: Path) -> None:
    """Where a drop-in moves the control socket, commands find it through the main file,
    even if the main file is broken by now.
    """
    moved = tmp_path / "moved.sock"
    unpd = launch(DEFAULT_SERVICES, drop_ins={"a": f'[daemon]\ncontrol = "{moved}"\n'})
    unpd.config_path.write_text("broken = ")
    assert moved.is_socket()
    assert unpd.run("status", "--config", str(unpd.config_path)).returncode == 0
