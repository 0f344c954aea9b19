"""Keys that need a restart, numbers of workers, and the configuration as TOML."""

import tomllib
from collections.abc import Callable

import pytest

from unpd.config.host import Host
from unpd.config.load import Loaded, builtin, loads
from unpd.config.plan import effective, restart_needed, worker_count
from unpd.config.schema import Pool
from unpd.services.base import Options

Accept = Callable[[str], Loaded]

ECHO = "[services.echo]\n"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", ()),
        ("daemon.user = 'unpd'", ("daemon.user",)),
        ("daemon.group = 'unpd'", ("daemon.group",)),
        ("daemon.pid_file = '/x'", ("daemon.pid_file",)),
        ("daemon.control = '/x'", ("daemon.control",)),
        ("log.format = 'json'", ("log.format",)),
        ("log.file = '/x'", ("log.file",)),
        (
            "log = {file = '/x', format = 'json'}\ndaemon.user = 'unpd'",
            ("daemon.user", "log.format", "log.file"),
        ),
        (
            (
                "daemon = {lame_duck_s = 1, grace_s = 1, reload_grace_s = 1, start_timeout_s = 1,"
                " heartbeat_timeout_s = 2}"
            ),
            (),
        ),
        (
            (
                "log.level = 'debug'\nmetrics.listen = false\npools.default.workers ="
                " 1\nservices.daytime = {}"
            ),
            (),
        ),
    ],
)
def test_restart_needed(accept: Accept, text: str, keys: tuple[str, ...]) -> None:
    """User, group, pid file, control socket, and the log's file and format need a
    restart; a reload may change every other key.
    """
    assert restart_needed(accept(ECHO).config, accept(f"{text}\n{ECHO}").config) == keys


def test_worker_count() -> None:
    """A number is itself; "auto" is one worker for each CPU, at most 512."""
    assert worker_count(Pool(workers=7), cpus=2) == 7
    assert worker_count(Pool(), cpus=2) == 2
    assert worker_count(Pool(), cpus=1000) == 512
    assert worker_count(Pool()) >= 1


def test_effective_shows_every_key(host: Host) -> None:
    """The effective configuration has every key with its value, including defaults."""
    text = effective(
        loads(
            "metrics.listen = false\n[services.daytime]\nlisten = ['unix:///run/d']\nsocket_mode ="
            " '600'",
            host,
        ).config
    )
    assert tomllib.loads(text) == {
        "daemon": {
            "user": "nobody",
            "lame_duck_s": 0,
            "grace_s": 10,
            "reload_grace_s": 60,
            "start_timeout_s": 10,
            "heartbeat_timeout_s": 30,
            "pid_file": "/run/unpd/unpd.pid",
            "control": "/run/unpd/control.sock",
        },
        "log": {"level": "info", "format": "text", "file": "", "connections": False},
        "metrics": {"listen": False, "required": True, "allow": []},
        "access": {"state_file": "", "never_deny": ["loopback"]},
        "pools": {"default": {"workers": "auto", "max_connections_per_worker": 10000}},
        "services": {
            "daytime": {
                "type": "daytime",
                "listen": ["unix:///run/d"],
                "pool": "default",
                "model": "event",
                "max_connections": 0,
                "backlog": 4096,
                "idle_timeout_s": 600,
                "session_timeout_s": 0,
                "keepalive": True,
                "user_timeout_s": 60,
                "ipv6_only": False,
                "socket_mode": "0600",
                "amplification": 3,
                "datagram_rate": 1000,
                "datagram_total_rate": 20_000,
                "proxy_protocol": [],
                "allow": [],
                "deny": [],
                "max_per_source": 0,
                "source_prefix_v4": 32,
                "source_prefix_v6": 64,
                "accept_rate": "",
                "accept_rate_per_source": "",
                "access_times": [],
                "times_zone": "local",
                "max_pressure": {"cpu": 0, "memory": 0, "io": 0},
                "max_load": 0,
                "banner_refused": "",
                "banner_accepted": "",
                "mode": "enforce",
                "observe": [],
                "format": "ctime",
                "timezone": "local",
            }
        },
    }


def test_effective_of_the_default_loads(host: Host) -> None:
    """The effective text of the built-in default loads as that default, without a
    warning.
    """
    loaded = builtin(host)
    assert loads(effective(loaded.config), host) == loaded


def test_effective_leaves_out_an_unused_default_pool(accept: Accept) -> None:
    """An unused default pool that no file configures is left out, so that the text
    loads without a warning.
    """
    config = accept("[pools.web]\n[services.echo]\npool = 'web'").config
    assert accept(effective(config)) == Loaded(config, None)


def test_effective_quotes(accept: Accept) -> None:
    """A text with quotes, control characters and non-ASCII characters is written so
    that TOML reads the same text; lists and fractions also survive.
    """

    class OptionsOfTest(Options):
        text: str
        items: tuple[float, ...]

    options = OptionsOfTest(text='"\\\n\x7f\x00é😀', items=(0.1, 1e-9, 3.0))
    config = accept(ECHO).config
    service = config.services["echo"].model_copy(update={"options": options})
    table = tomllib.loads(effective(config.model_copy(update={"services": {"echo": service}})))[
        "services"
    ]["echo"]
    assert OptionsOfTest(text=table["text"], items=tuple(table["items"])) == options


def test_effective_refuses_what_toml_cannot_express(accept: Accept) -> None:
    """An option that TOML cannot express raises TypeError instead of being dropped: it
    is a fault of the service type.
    """

    class OptionsOfTest(Options):
        parts: tuple[int | None, ...]

    config = accept(ECHO).config
    service = config.services["echo"].model_copy(update={"options": OptionsOfTest(parts=(None,))})
    with pytest.raises(TypeError, match="an option of type NoneType cannot be written as TOML"):
        effective(config.model_copy(update={"services": {"echo": service}}))
