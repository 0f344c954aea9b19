"""The merge of the main file and its drop-ins, and the file that each message names."""

import pytest

from tests.support.etc import Etc
from unpd.config.findings import MAX_PROBLEMS
from unpd.config.plan import effective

ECHO = "[services.echo]\n"


def test_key_by_key(etc: Etc) -> None:
    """Tables merge key by key. The main file comes first, then the drop-ins by name;
    the later file wins.
    """
    etc.write(
        "[daemon]\nuser = 'main'\ngroup = 'main'\ngrace_s = 1\n[metrics]\nlisten ="
        f" false\n[pools.default]\nworkers = 1\nmax_connections_per_worker = 1\n{ECHO}",
        b="[daemon]\nuser = 'b'\n[log]\nlevel = 'debug'\n[pools.default]\nworkers = 3\n",
        a=(
            "daemon = { user = 'a', group = 'a' }\nmetrics.listen ="
            " 'unix:///a'\n[pools.default]\nworkers = 2\n"
        ),
    )
    loaded = etc.load()
    config = loaded.config
    assert (config.daemon.user, config.daemon.group, config.daemon.grace_s) == ("b", "a", 1.0)
    assert (config.log.level, config.log.format) == ("debug", "text")
    assert config.metrics.listen is not None
    assert config.metrics.listen.text == "unix:///a"
    assert (
        config.pools["default"].workers,
        config.pools["default"].max_connections_per_worker,
    ) == (3, 1)
    assert (loaded.path, loaded.drop_ins, loaded.warnings) == (etc.main, 2, ())


def test_services_and_pools_of_all_files(etc: Etc) -> None:
    """Every file may configure services and pools, and a service may use a pool of
    another file.
    """
    etc.write(
        ECHO,
        clock="[services.clock]\ntype = 'daytime'\npool = 'slow'\n",
        slow="[pools.slow]\nworkers = 1\n",
    )
    config = etc.load().config
    assert (set(config.services), set(config.pools)) == ({"echo", "clock"}, {"default", "slow"})


@pytest.mark.parametrize("main", ["", "# text\n", "[daemon]\ngrace_s = 1\n", "[services]\n"])
def test_services_from_drop_ins_alone(etc: Etc, main: str) -> None:
    """The main file may be empty if a drop-in configures a service."""
    etc.write(main, echo=ECHO)
    assert list(etc.load().config.services) == ["echo"]


@pytest.mark.parametrize("text", ["", "\n \n", "# text\n", "\ufeff"])
def test_empty_drop_in(etc: Etc, text: str) -> None:
    """An empty drop-in changes text."""
    etc.write(ECHO, a=text)
    assert etc.load().drop_ins == 1


def test_no_service_in_any(etc: Etc) -> None:
    """If no file has a service, the message names the main file."""
    etc.write("", a="", b="[services]\n")
    assert [line.rpartition("/")[2] for line in etc.refusal()] == [
        "unpd.toml: no service is configured: add a table such as [services.echo]"
    ]


def test_a_service_twice(etc: Etc) -> None:
    """A service in two files is an error that names both places, even if the tables are
    equal; with three files, each duplicate is an error.
    """
    etc.write(ECHO, a=f"\n{ECHO}")
    assert etc.refusal() == [
        (
            "conf.d/a.toml:2: services.echo: this service is in unpd.toml:1 too, but it may be"
            " in one file only: change it there"
        )
    ]
    etc.write("", b="services.echo.backlog = 5\n", c="# three\n\n[services]\necho = {}\n")
    assert etc.refusal() == [
        (
            "conf.d/c.toml:4: services.echo: this service is in conf.d/a.toml:2 too, but it may be"
            " in one file only: change it there"
        ),
        (
            "conf.d/c.toml:4: services.echo: this service is in conf.d/b.toml:1 too, but it may be"
            " in one file only: change it there"
        ),
    ]


def test_a_fault_names_the_file_that_set_the_value(etc: Etc) -> None:
    """A fault of a value is reported at the file that set it, a fault of a table at the
    first file that has the table.
    """
    etc.write(
        f"[daemon]\nuser = ''\ngrace_s = 1\nzzz = 1\n[pools.Web]\n{ECHO}",
        a="[daemon]\n\ngrace_s = 0\n[pools.Web]\nworkers = 1\n",
        b="#\n[daemon]\nreload_grace_s = -1\n[services.clock]\ntype = 'clok'\n[deamon]\n",
    )
    assert [line.split(": ")[:2] for line in etc.refusal()] == [
        ["unpd.toml:2", "daemon.user"],
        ["unpd.toml:4", "daemon.zzz"],
        ["unpd.toml:5", "pools.Web"],
        ["conf.d/a.toml:3", "daemon.grace_s"],
        ["conf.d/b.toml:3", "daemon.reload_grace_s"],
        ["conf.d/b.toml:5", "services.clock.type"],
        ["conf.d/b.toml:6", "deamon"],
    ]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize(
    ("wrong", "right", "sentence"),
    [
        ("daemon = 1", "[daemon]\ngrace_s = 1\n", "daemon: must be a table, written as [daemon]"),
        (
            "services = []",
            "[services.daytime]\n",
            "services: must be a table, written as [services]",
        ),
        (
            "pools.x = 1",
            "[pools.x]\nworkers = 1\n",
            "pools.x: must be a table, written as [pools.x]",
        ),
    ],
)
def test_a_table_hides_no_value_in_its_place(
    etc: Etc, order: tuple[str, str], wrong: str, right: str, sentence: str
) -> None:
    """A value in place of a table is refused, also if an earlier or later file has the
    table.
    """
    etc.write(
        "",
        **{
            order[0]: wrong,
            order[1]: f"{right}[services.echo]\n" if "services" not in wrong else right,
        },
    )
    assert f"conf.d/{order[0]}.toml:1: {sentence}" in etc.refusal()


def test_checks_across_files(etc: Etc) -> None:
    """A clash of two files is reported at the later one."""
    etc.write(
        "[services.echo]\nlisten = ['tcp://[::]:7']\n",
        a="[services.twin]\ntype = 'echo'\n\nlisten = ['tcp://[::]:7']\n",
    )
    assert etc.refusal() == [
        (
            "conf.d/a.toml:4: services.twin.listen: tcp://[::]:7 is also an address of"
            " services.echo.listen"
        )
    ]


def test_warnings_name_their_file(etc: Etc) -> None:
    """A warning names the file and the line."""
    etc.write(ECHO, a="\n[pools.spare]\n")
    assert etc.load().warnings == (
        f"{etc.conf_d / 'a.toml'}:2: pools.spare: no service uses this pool",
    )


def test_broken_files_are_reported_together(etc: Etc) -> None:
    """All files that are not TOML are reported together, the main file first."""
    etc.write("x = \n", a=ECHO, b="\ny = \n")
    assert [line.split(": ")[0] for line in etc.refusal()] == ["unpd.toml:1", "conf.d/b.toml:2"]


def test_broken_files_are_bounded(etc: Etc) -> None:
    """The first hundred broken files are reported, and the number of the others."""
    etc.write(ECHO, **{f"f{number:03}": "x = \n" for number in range(MAX_PROBLEMS + 50)})
    lines = etc.refusal()
    assert len(lines) == MAX_PROBLEMS + 1
    assert lines[-1] == "unpd.toml: 50 more problems are not shown"


def test_a_missing_main_file(etc: Etc) -> None:
    """Drop-ins alone are no configuration: the main file must exist."""
    etc.write("", a=ECHO)
    etc.main.unlink()
    assert etc.refusal() == ["unpd.toml: there is no such file"]


def test_effective_is_one_file(etc: Etc) -> None:
    """The effective configuration of several files, written to one file, loads as the
    same configuration.
    """
    etc.write(
        "[daemon]\ngrace_s = 1\n", a=ECHO, b="[daemon]\ngrace_s = 2\n[pools.default]\nworkers = 1\n"
    )
    several = etc.load().config
    for drop_in in etc.conf_d.iterdir():
        drop_in.unlink()
    etc.write(effective(several))
    assert etc.load().config == several
