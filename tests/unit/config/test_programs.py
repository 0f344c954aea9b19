"""Services of type exec: every key with bad input, and what this host must have."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import requires_looks_as_others
from unpd.config.access import AccessKeys
from unpd.config.host import Host
from unpd.config.load import Loaded, loads
from unpd.config.plan import effective
from unpd.config.programs import needs_root
from unpd.config.schema import DEFAULT_PROGRAMS, Daemon
from unpd.errors import ConfigError
from unpd.kernel.privileges import Identity, identify
from unpd.services.program import ProgramOptions

Accept = Callable[[str], Loaded]
Refuse = Callable[[str], list[str]]

HEAD = '[services.x]\ntype = "exec"\nlisten = ["tcp://[::]:9200"]\n'
CAT = HEAD + 'command = ["/bin/cat"]\n'
COMMAND = (
    "must be a list of the absolute path of a program and its arguments, such as"
    ' ["/usr/bin/git", "daemon", "--inetd"]'
)
LIMITS = (
    "must be a table such as { nofile = 256, cpu_s = 60 }, with whole numbers for nofile, nproc,"
    " cpu_s, as_mb and core_mb"
)
VARIABLE = "the name of a variable has letters, digits and underscores, and no digit first"
ABSOLUTE = (
    "must begin with the absolute path of the program; no shell looks for it, and none reads the"
    " arguments"
)
ABOUT_CLIENTS = {
    "allow": 'allow = ["loopback"]',
    "deny": 'deny = ["192.0.2.0/24"]',
    "access_times": 'access_times = ["08:00-18:00"]',
    "max_per_source": "max_per_source = 1",
    "accept_rate_per_source": 'accept_rate_per_source = "5/s"',
    "max_pressure": "max_pressure = { cpu = 50 }",
    "max_load": "max_load = 1.0",
    "on_limit": 'on_limit = "refuse"',
    "banner_refused": 'banner_refused = "x"',
    "banner_accepted": 'banner_accepted = "x"',
    "proxy_protocol": 'proxy_protocol = ["loopback"]',
}
"""Keys that decide about each client."""
NOT_ABOUT_CLIENTS = {
    "accept_rate",  # of programs
    "source_prefix_v4",  # these three only say how others are meant
    "source_prefix_v6",
    "times_zone",
    "mode",  # these two are about refusals that there are
    "observe",
}
BAD = [
    ('command = "/bin/cat"', "command", COMMAND),
    ("command = []", "command", COMMAND),
    ("command = [7]", "command", COMMAND),
    ('command = ["cat"]', "command", ABSOLUTE),
    ('command = ["/bin/cat", "a\\u0000b"]', "command", "must not contain a zero byte"),
    (
        'command = ["/no/such"]',
        "command",
        '"/no/such" cannot be started: No such file or directory',
    ),
    ('command = ["/tmp"]', "command", '"/tmp" is no program: it is not a plain file'),
    (
        'command = ["/etc/passwd"]',
        "command",
        '"/etc/passwd" is not executable: no user may execute it (chmod +x)',
    ),
    ('user = "a b"', "user", 'must be the name of a user, such as "nobody"'),
    ("user = 0", "user", 'must be the name of a user, such as "nobody"'),
    ("group = 0", "group", 'must be the name of a group, such as "nogroup"'),
    ('groups = "mail"', "groups", 'must be a list of names of groups, such as ["mail"]'),
    ('groups = [""]', "groups", 'must be a list of names of groups, such as ["mail"]'),
    (
        "umask = 22",
        "umask",
        'must be a string of three octal digits, or of 0 and three, such as "0027"',
    ),
    (
        'umask = "22"',
        "umask",
        'must be a string of three octal digits, or of 0 and three, such as "0027"',
    ),
    (
        'umask = "0800"',
        "umask",
        'must be a string of three octal digits, or of 0 and three, such as "0027"',
    ),
    ("nice = 40", "nice", "must be a whole number from -40 to 39"),
    ("nice = 1.5", "nice", "must be a whole number from -40 to 39"),
    ('directory = "x"', "directory", 'must be an absolute path, such as "/var/lib/mysqlchk"'),
    ('directory = "/no/such"', "directory", 'there is no directory "/no/such"'),
    ('directory = "/bin/cat"', "directory", 'there is no directory "/bin/cat"'),
    ("limits = 7", "limits", LIMITS),
    ("limits = { nofile = 2 }", "limits", LIMITS),
    ("limits = { open = 20 }", "limits", LIMITS),
    ("limits = { cpu_s = 0 }", "limits", LIMITS),
    ("limits = { as_mb = 1.5 }", "limits", LIMITS),
    (
        "environment = { A = 7 }",
        "environment",
        'must be a table of texts, such as { LANG = "C.UTF-8" }',
    ),
    ('environment = { "A=B" = "x" }', "environment", VARIABLE),
    ('environment = { A = "\\u0000" }', "environment", "must not contain a zero byte"),
    ('pass_environment = ["1A"]', "pass_environment", VARIABLE),
    (
        "pass_environment = 7",
        "pass_environment",
        'must be a list of names of variables, such as ["LANG"]',
    ),
    ('stderr = "null"', "stderr", 'must be "socket" or "log"'),
    ("kill_after_s = 0", "kill_after_s", "must be a number of seconds from 0.1 to 3600"),
    (
        "max_connections = 0",
        "max_connections",
        'must be a whole number from 1 to 10000 with type = "exec": each connection is a process',
    ),
    (
        'model = "fork"',
        "model",
        'a service of type "exec" has no model, because a launcher serves it: leave the key out',
    ),
]


@pytest.mark.parametrize(("line", "key", "sentence"), BAD)
def test_a_bad_value_is_refused(refuse: Refuse, line: str, key: str, sentence: str) -> None:
    """With its line, and a sentence that says what is right."""
    text = f"{HEAD if key == 'command' else CAT}{line}\n"
    number = text.count("\n")
    assert refuse(text) == [f"unpd.toml:{number}: services.x.{key}: {sentence}"]


def test_a_bad_value_hides_no_other(refuse: Refuse) -> None:
    """All errors come at once: also what the host lacks, beside a faulty key."""
    text = f'{HEAD}command = ["/tmp"]\numask = "27"\ndirectory = "/nope"\nkeep = "1"\n'
    keys = [sentence.split(": ")[1] for sentence in refuse(text)]
    assert keys == [f"services.x.{key}" for key in ("command", "umask", "directory", "keep")]


def test_the_command_is_needed(refuse: Refuse) -> None:
    """A program has no default."""
    sentence = COMMAND.replace("must be", "is missing; it must be")
    assert refuse(HEAD) == [f"unpd.toml:1: services.x.command: {sentence}"]


def test_every_key_is_kept(accept: Accept) -> None:
    """The effective configuration, loaded again, is the same."""
    text = CAT + (
        'user = "daemon"\ngroup = "mail"\ngroups = ["games"]\numask = "0027"\nnice = -5\n'
        'directory = "/tmp"\nlimits = { nofile = 9, core_mb = 0 }\npass_environment = ["TZ"]\n'
        'environment = { LANG = "C", QUOTED = "a\\"b" }\nstderr = "log"\nkill_after_s = 0.5\n'
    )
    loaded = accept(text)
    assert loaded.warnings == ()
    again = accept(effective(loaded.config))
    assert again.warnings == ()
    assert again.config == loaded.config


def test_the_default_limit(accept: Accept) -> None:
    """Programs are large: fewer of them than of other processes."""
    assert accept(CAT).config.services["x"].max_connections == DEFAULT_PROGRAMS == 64
    inherited = accept(f"[defaults]\nmax_connections = 7\n{CAT}").config
    assert inherited.services["x"].max_connections == 7


def test_a_model_of_defaults_is_for_others(accept: Accept) -> None:
    """It is no error, and changes nothing."""
    config = accept(f'[defaults]\nmodel = "iterative"\n{CAT}').config
    assert config.services["x"].kind == "launcher"


def test_an_idle_timeout_means_nothing(accept: Accept) -> None:
    """The warning names the key that does."""
    (warning,) = accept(f"{CAT}idle_timeout_s = 5\n").warnings
    assert warning.endswith("without unpd; set session_timeout_s")
    assert accept(f"[defaults]\nidle_timeout_s = 5\n{CAT}").warnings == ()


def test_datagrams_need_wait(refuse: Refuse, accept: Accept) -> None:
    """Nobody could accept a connection there."""
    text = CAT.replace("tcp:", "udp:")
    (line,) = refuse(text)
    assert line.endswith(
        "udp://[::]:9200 is of datagrams: set wait = true, so that a program gets the socket"
    )
    assert accept(f"{text}wait = true\n").warnings == ()


@pytest.mark.parametrize("line", ABOUT_CLIENTS.values(), ids=ABOUT_CLIENTS)
@pytest.mark.parametrize("way", ["wait = true", 'keep = 2\npass = "systemd"'])
def test_nobody_decides_about_clients_that_unpd_does_not_see(
    refuse: Refuse, line: str, way: str
) -> None:
    """Neither by a key of the service nor by one of [defaults]."""
    sentence = "with wait or keep the program itself takes the clients, and unpd sees none of them"
    for text, mend in {
        f"{CAT}{way}\n{line}\n": "remove this key",
        f"[defaults]\n{line}\n{CAT}{way}\n": "set it in [services.x] to what sets no limit",
    }.items():
        (refusal,) = refuse(text)
        assert f": {sentence}: {mend}" in refusal


def test_every_key_about_clients_is_decided_on() -> None:
    """A new one is either refused for such programs, or means something for them."""
    decided = ABOUT_CLIENTS.keys() | NOT_ABOUT_CLIENTS
    assert decided == AccessKeys.model_fields.keys()


@pytest.mark.parametrize("way", ["wait = true", 'keep = 2\npass = "systemd"'])
def test_limits_that_need_no_client(accept: Accept, way: str) -> None:
    """They count programs."""
    text = f'{CAT}{way}\nmax_connections = 7\naccept_rate = "5/s"\n'
    assert accept(text).warnings == ()


def test_kept_programs(refuse: Refuse, accept: Accept) -> None:
    """They get their socket as from systemd, wait for nobody, and are few enough."""
    for keys, sentence in {
        "keep = 2\n": 'keep: needs pass = "systemd"',
        'keep = 2\npass = "systemd"\nwait = true\n': "keep: one of wait and keep excludes",
        'keep = 65\npass = "systemd"\n': "max_connections: is less than the 65 programs",
    }.items():
        (refusal,) = refuse(CAT + keys)
        assert sentence in refusal
    (refusal,) = refuse(f'{CAT}keep = 2\npass = "sytemd"\n')  # and nothing about keep
    assert "pass: " in refusal
    assert accept(f'{CAT}keep = 64\npass = "systemd"\n').warnings == ()


def test_tcpmux_offers_no_program(refuse: Refuse) -> None:
    """Only what workers serve."""
    mux = '[services.tcpmux]\nlisten = ["tcp://[::]:1"]\nservices = ["x"]\n'
    (line,) = refuse(CAT + mux)
    assert line.endswith(
        '"x" is of type "exec", but a tcpmux offers only services that workers serve'
    )


@requires_looks_as_others()
def test_the_user_of_a_program_may_execute_it(host: Host, tmp_path: Path) -> None:
    """Root warns if not, and if that user may not enter the directory. Where the checks
    may not look accounts up, only of a program with the account of root's children. A
    test of the doctor has the user's own check.
    """
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = f'{HEAD}user = "nobody"\ncommand = ["{program}"]\ndirectory = "{closed}"\n'
    warnings = loads(text, replace(host, check_accounts=True, drops_to="nobody")).warnings
    assert [line.partition(": ")[2] for line in warnings] == [
        f'services.x.{key}: the user nobody may not {verb} "{path}", or may not reach it'
        for key, verb, path in (("command", "execute", program), ("directory", "enter", closed))
    ]
    assert loads(text, host).warnings == ()
    nobody = identify("nobody", None)
    reloading = replace(host, drops_to="nobody", children=nobody)
    (warning,) = loads(f'{HEAD}command = ["{program}"]\n', reloading).warnings
    assert "the user nobody may not execute" in warning
    for key in ('group = "mail"', 'groups = ["mail"]', 'user = "daemon"'):
        assert loads(f'{HEAD}command = ["{program}"]\n{key}\n', reloading).warnings == ()


def test_unknown_accounts_are_refused(host: Host) -> None:
    """Where the checks may look them up."""
    keys = 'user = "no-such"\ngroup = "no-such"\ngroups = ["daemon", "no-such"]\n'
    with pytest.raises(ConfigError) as caught:
        loads(CAT + keys, replace(host, check_accounts=True, drops_to="nobody"))
    assert [problem.message for problem in caught.value.problems] == [
        'there is no user "no-such" on this system',
        'there is no group "no-such" on this system',
        'there is no group "no-such" on this system',
    ]


@pytest.mark.parametrize(
    "line", ['user = "daemon"', 'group = "daemon"', 'groups = ["daemon"]', 'user = "root"']
)
def test_another_user_needs_root(host: Host, line: str) -> None:
    """The error names the drop-in for the packaged unit."""
    plain = replace(host, uid=1000, user="unpd", children=None)
    key = line.partition(" ")[0]
    with pytest.raises(ConfigError) as caught:
        loads(f"{CAT}{line}\n", plain)
    assert str(caught.value) == (
        f"unpd.toml:5: services.x.{key}: it differs from the daemon's, whose programs"
        ' run as "unpd": only a daemon that root started can do that; under unpd.service, install'
        " the drop-in programs.conf (PROGRAMS in unpd(8))"
    )


def test_a_greater_priority_needs_root(host: Host) -> None:
    """Else the kernel would refuse it for each client."""
    plain = replace(host, uid=1000, user="unpd", children=None)
    with pytest.raises(ConfigError) as caught:
        loads(f"{CAT}nice = -1\n", plain)
    assert str(caught.value) == (
        "unpd.toml:5: services.x.nice: is less than 0: only a daemon that root started can do that;"
        " under unpd.service, install the drop-in programs.conf (PROGRAMS in unpd(8))"
    )


def test_the_own_user_needs_no_root(host: Host) -> None:
    """Nor its own group, as [daemon] names them."""
    plain = replace(host, uid=1000, user="unpd", children=None)
    daemon = '[daemon]\nuser = "unpd"\ngroup = "unpd"\n'
    assert loads(f'{daemon}{CAT}user = "unpd"\ngroup = "unpd"\n', plain).warnings == ()


def test_a_program_with_roots_rights_is_warned_of(host: Host) -> None:
    """Whoever takes it over has the system."""
    careful = replace(host, drops_to="nobody", children=Identity("nobody", 65534, "nogroup", 65534))
    (warning,) = loads(f'{CAT}user = "root"\n', careful).warnings
    assert "lets the program keep root's rights" in warning


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, False),
        ({"user": "unpd"}, False),
        ({"user": "unpd", "group": "unpd"}, False),
        ({"user": "other"}, True),
        ({"group": "other"}, True),
        ({"groups": ("unpd",)}, True),
        ({"nice": 5}, False),
        ({"nice": -1}, True),
    ],
)
def test_who_needs_root(keys: dict[str, Any], expected: bool) -> None:
    """Another user or group than the daemon's, any supplementary group, and a greater
    priority.
    """
    daemon = Daemon(user="unpd", group="unpd")
    assert needs_root(ProgramOptions(command=("/bin/cat",), **keys), daemon) is expected


def test_a_directory_that_only_its_user_may_see(host: Host, tmp_path: Path) -> None:
    """It is not an error, because the program's user may reach it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    try:
        loads(f'{CAT}directory = "{closed}"\n', replace(host, uid=os.getuid()))
    finally:
        closed.chmod(0o700)
