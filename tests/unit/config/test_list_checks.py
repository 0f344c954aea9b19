"""What the entries of lists mean, and where they mean nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from unpd.config.list_checks import MAX_COMPARED
from unpd.config.load import Loaded

Accept = Callable[[str], Loaded]
Refuse = Callable[[str], list[str]]

ECHO = "[services.echo]\n"
UNIX = f"{ECHO}listen = ['unix:///run/unpd/e', 'tcp://[::]:7']\n"


@pytest.fixture
def list_file(tmp_path: Path) -> Path:
    """A list file that only its owner can change."""
    file = tmp_path / "some.list"
    file.touch(mode=0o644)
    return file


def test_users_of_datagrams_are_unknown(refuse: Refuse, accept: Accept) -> None:
    """A rule about them would let in, or keep out, the wrong ones."""
    text = f"{ECHO}listen = ['unixgram:///run/e']\n"
    for key in ("allow", "deny"):
        (sentence,) = refuse(f"{text}{key} = ['uid:root']\n")
        assert sentence.startswith(f"unpd.toml:3: services.echo.{key}: ")
        assert "mean nothing for datagrams, which come to unixgram:///run/e" in sentence
    assert accept(f"{text}deny = ['unix']\n").warnings == ()


@pytest.mark.parametrize(
    ("entry", "network"),
    [("10.1.0.0", "10.1.0.0/16"), ("192.0.2.0", "192.0.2.0/24"), ("0.0.0.0", "all")],
)
def test_an_address_that_looks_like_a_network(accept: Accept, entry: str, network: str) -> None:
    """To xinetd it is a network. One sentence for each list; a prefix length says that
    the address is meant.
    """
    text = f"{ECHO}allow = ['{entry}', '10.2.0.0', '10.3.0.1', '10.3.0.0/16', '::']\n"
    assert accept(text).warnings == (
        (
            f'unpd.toml:2: services.echo.allow: "{entry}" is one address, and no network: for the'
            f' network write "{network}", for the address "{entry}/32"'
        ),
    )
    assert accept(f"{ECHO}allow = ['{entry}/32']\n").warnings == ()
    for head in (
        f"{ECHO}proxy_protocol",
        f"{ECHO}[metrics]\nlisten = 'tcp://[::]:9867'\nallow",
        f"{ECHO}[access]\nnever_deny",
    ):
        (warning,) = accept(f"{head} = ['{entry}']\n").warnings
        assert f'.{head.rpartition(chr(10))[2]}: "{entry}" is one address' in warning


def test_an_address_of_a_list_file_that_looks_like_a_network(
    accept: Accept, list_file: Path
) -> None:
    """The warning names the line of the file."""
    list_file.write_text("192.0.2.1\n10.1.0.0\n")
    (warning,) = accept(f"{ECHO}deny = ['192.0.2.9', 'file:{list_file}']\n").warnings
    assert warning.startswith(
        f'unpd.toml:2: services.echo.deny: {list_file}:2: "10.1.0.0" is one address, and no network'
    )


@pytest.mark.parametrize(
    ("content", "line"), [("192.0.2.1\n10.1", 2), ("192.0.2.1", 1), ("# x\n#", 2)]
)
def test_a_list_file_that_may_be_cut_off(
    accept: Accept, list_file: Path, content: str, line: int
) -> None:
    """Whoever writes a list without renaming it may be in the middle of a line. One
    sentence, however many lists name the file; a file without a line has none to lack.
    """
    content = content.replace("10.1", "10.1.2.3")
    list_file.write_text(content)
    key = f"deny = [\n'198.51.100.1',\n'file:{list_file}']\n"
    text = f"{ECHO}{key}[services.time]\n{key}"
    assert accept(text).warnings == (
        (
            f"unpd.toml:4: services.echo.deny: {list_file}:{line}: the last line has no end, so the"
            " file may be cut off: end it with a newline, and replace a list by renaming a new"
            " file"
        ),
    )
    for whole in (f"{content}\n", ""):
        list_file.write_text(whole)
        assert accept(text).warnings == ()


@pytest.mark.parametrize(
    ("allow", "deny", "sentence"),
    [
        (
            "'192.0.2.0/24', '10.0.0.0/8'",
            "'all'",
            (
                '"all" refuses also "192.0.2.0/24" and 1 more of allow: leave that out, because'
                " allow alone refuses all others"
            ),
        ),
        ("'all'", "'all'", '"all" refuses also "all" of allow: leave that out'),
        ("'10.0.0.1', '10.0.0.2'", "'10.0.0.2'", '"10.0.0.2" refuses also "10.0.0.2" of allow:'),
        (
            "'10.1.0.0/16'",
            "'private'",
            '"private" refuses also "10.1.0.0/16" of allow: deny wins, so leave one of them out',
        ),
        ("'loopback'", "'127.0.0.0/8', '::/0'", '"127.0.0.0/8" refuses also "loopback"'),
        ("'uid:0'", "'unix'", '"unix" refuses also "uid:0" of allow'),
        ("'uid:0', 'gid:0'", "'gid:0'", '"gid:0" refuses also "gid:0" of allow'),
    ],
)
def test_an_entry_of_allow_that_deny_has_too(
    accept: Accept, allow: str, deny: str, sentence: str
) -> None:
    """It lets nobody in, because deny wins."""
    (warning,) = accept(f"{UNIX}allow = [{allow}]\ndeny = [{deny}]\n").warnings
    assert warning.startswith(f"unpd.toml:4: services.echo.deny: {sentence}")


def test_exceptions_from_allow_are_what_deny_is_for(accept: Accept) -> None:
    """A part of an entry may be refused, and deny = ["all"] alone closes a service."""
    for keys in (
        "allow = ['private']\ndeny = ['10.0.0.0/8']\n",
        "allow = ['unix']\ndeny = ['uid:0']\n",
        "allow = ['all']\ndeny = ['0.0.0.0/0']\n",
        "deny = ['all']\n",
    ):
        assert accept(UNIX + keys).warnings == ()


def test_a_deny_of_all_in_the_defaults(accept: Accept) -> None:
    """It shuts out those that a service means to let in."""
    (warning,) = accept(f"[defaults]\ndeny = ['all']\n{ECHO}allow = ['10.0.0.0/8']\n").warnings
    assert warning.startswith('unpd.toml:2: defaults.deny: "all" refuses also "10.0.0.0/8"')
    assert warning.endswith("(services.echo)")


def test_a_long_list_is_not_compared(accept: Accept, list_file: Path) -> None:
    """A load has to be short."""
    lines = [f"10.0.{2 * n >> 8}.{2 * n & 255}\n" for n in range(MAX_COMPARED + 1)]
    text = f"{ECHO}allow = ['file:{list_file}']\ndeny = ['all']\n"
    list_file.write_text("".join(lines).replace("0.0\n", "0.9\n"))
    assert not any("refuses also" in warning for warning in accept(text).warnings)
    list_file.write_text("".join(lines[1:]))
    assert any("refuses also" in warning for warning in accept(text).warnings)


@pytest.mark.parametrize("key", ["allow", "deny", "proxy_protocol"])
@pytest.mark.parametrize("entry", ["uid:0", "gid:0", "unix"])
@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_rules_of_unix_peers_without_a_unix_socket(
    accept: Accept, key: str, entry: str, scheme: str
) -> None:
    """They match nobody. Those of [defaults] are for other services, and a listener of
    the service manager may be anything.
    """
    text = f"{ECHO}listen = ['{scheme}://[::]:7']\n"
    line = f"{key} = ['{entry}']\n"
    warnings = accept(text + line).warnings
    assert warnings[0] == (
        f'unpd.toml:3: services.echo.{key}: "{entry}" matches nobody, because only clients of UNIX'
        f" sockets are such, and {scheme}://[::]:7 is none"
    )
    more = ", 'loopback'" if key == "allow" else ""
    assert accept(f"[defaults]\n{key} = ['{entry}'{more}]\n{text}").warnings == ()
    for listen in ("'unix:///run/e'", "'tcp://[::]:7', 'unix:///run/e'", "'systemd:echo'"):
        assert accept(f"{ECHO}listen = [{listen}]\n{line}").warnings == ()


@pytest.mark.parametrize(
    ("allow", "listen"),
    [
        ("'uid:0'", "'tcp://[::]:7'"),
        ("'unix', 'gid:0'", "'tcp://127.0.0.1:7', 'udp://[::]:7'"),
        ("'private'", "'tcp://127.0.0.1:7'"),
        ("'private', '::1'", "'unix:///run/e'"),
    ],
)
def test_a_list_of_the_defaults_that_shuts_all_out(accept: Accept, allow: str, listen: str) -> None:
    """Of an address where none of its entries matches anybody. One that may match is
    enough, and so is a list of its own.
    """
    text = f"[defaults]\nallow = [{allow}]\n{ECHO}listen = [{listen}"
    address = listen.split("'")[1]
    assert accept(f"{text}]\n").warnings == (
        (
            "unpd.toml:2: defaults.allow: it lets nobody in here, because no entry matches a client"
            f" of {address}: give the service a list of its own (services.echo)"
        ),
    )
    for more in ("]\nallow = []", "]\nproxy_protocol = ['::1']", ", 'systemd:echo']"):
        if "proxy" not in more or "tcp" in listen:
            assert accept(f"{text}{more}\n").warnings == ()
    assert (
        accept(f"[defaults]\nallow = [{allow}, 'all']\n{ECHO}listen = [{listen}]\n").warnings == ()
    )


def test_no_sensor_spares_users(accept: Accept) -> None:
    """It denies no client of a UNIX socket anyway."""
    assert accept(f"[access]\nnever_deny = ['loopback', 'uid:0']\n{ECHO}").warnings == (
        (
            'unpd.toml:2: access.never_deny: "uid:0" matches nobody, because no sensor denies a'
            " client of a UNIX socket"
        ),
    )
    assert accept(f"[access]\nnever_deny = ['all']\n{ECHO}").warnings == ()


def test_a_load_balancer_may_tell_unix_clients(accept: Accept) -> None:
    """Also one that comes over TCP."""
    assert accept(f"{ECHO}proxy_protocol = ['10.0.0.9']\nallow = ['unix']\n").warnings == ()


def test_a_network_never_comes_to_a_loopback_address(accept: Accept) -> None:
    """Neither to the metrics nor to a service. Behind a load balancer it may."""
    metrics = "[metrics]\nallow = ['loopback', '192.0.2.0/24']\n"
    assert accept(f"{ECHO}{metrics}").warnings == (
        (
            'unpd.toml:3: metrics.allow: "192.0.2.0/24" never comes to tcp://127.0.0.1:9867, which'
            " only this machine reaches: put an address that others reach into metrics.listen"
        ),
    )
    for line in ("listen = 'tcp://0.0.0.0:9867'", "listen = false", "listen = 'unix:///run/m'"):
        assert accept(f"{ECHO}{metrics}{line}\n").warnings == ()
    here = f"{ECHO}listen = ['tcp://127.0.0.1:7', 'udp://[::1]:7']\n"
    (warning,) = accept(f"{here}allow = ['private', '127.0.0.1']\n").warnings
    assert warning.startswith(
        'unpd.toml:3: services.echo.allow: "private" never comes to tcp://127'
    )
    assert warning.endswith("into services.echo.listen")
    for more in (
        "allow = ['all']\n",
        "allow = ['127.0.0.0/8', '::1']\n",
        "deny = ['private']\n",
        "allow = ['private']\nproxy_protocol = ['127.0.0.1']\n",
    ):
        assert accept(here + more).warnings == ()
    assert accept(f"[defaults]\nallow = ['private', '::1']\n{here}").warnings == ()


def test_everybody_as_a_load_balancer_is_warned_of(accept: Accept) -> None:
    """Any client could name another as the peer. Where a client of another host cannot
    come, all may.
    """
    every = "proxy_protocol = ['all']\n"
    assert accept(f"{ECHO}{every}").warnings == (
        (
            'unpd.toml:2: services.echo.proxy_protocol: "all" lets whoever reaches tcp://[::]:7 say'
            " that it is another client: name the load balancers alone"
        ),
    )
    for address in ("tcp://127.0.0.1:7", "tcp://[::1]:7", "unix:///run/echo"):
        assert accept(f"{ECHO}listen = ['{address}']\n{every}").warnings == ()
    assert accept(f"{ECHO}proxy_protocol = ['10.0.0.0/8']\n").warnings == ()
