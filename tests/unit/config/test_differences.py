"""The keys that differ between two configurations."""

from collections.abc import Callable
from pathlib import Path

import pytest

from unpd.config.differences import HIDDEN, NOT_SHOWN, OF_FILE, changed_keys
from unpd.config.load import Loaded

Accept = Callable[[str], Loaded]

ECHO = "[services.echo]\n"
MORE = '[services.more]\ntype = "echo"\npool = "new"\nlisten = ["tcp://127.0.0.1:9"]\n'
CAT = '[services.cat]\ntype = "exec"\nlisten = ["tcp://127.0.0.1:9"]\ncommand = ["/bin/cat"]\n'


def between(accept: Accept, old: str, new: str) -> list[tuple[str, str, str]]:
    """The differences of two texts, as tuples."""
    return [
        (change.key, change.before, change.after)
        for change in changed_keys(accept(old).config, accept(new).config)
    ]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (ECHO, ECHO, []),
        (ECHO, f"# another line\n\n{ECHO}", []),
        (
            ECHO,
            f"[daemon]\ngrace_s = 20\n{ECHO}backlog = 5\n",
            [("daemon.grace_s", "10", "20"), ("services.echo.backlog", "4096", "5")],
        ),
        (
            ECHO,
            f'[control]\nread_group = "7"\n{ECHO}socket_mode = "0600"\n',
            [
                ("control.read_group", "", '"7"'),
                ("services.echo.socket_mode", '"0666"', '"0600"'),
            ],
        ),
        (
            f"[pools.default]\nworkers = 2\n{ECHO}",
            f"[pools.default]\nworkers = 3\n[pools.new]\nworkers = 4\n{ECHO}{MORE}",
            [("pools.default.workers", "2", "3")],
        ),
        (
            f"[defaults]\ndeny = []\n{ECHO}",
            f'[defaults]\ndeny = ["10.0.0.0/8"]\n{ECHO}',
            [("services.echo.deny", "[]", '["10.0.0.0/8"]')],
        ),
        (
            CAT,
            f'{CAT}nice = 3\n[services.cat.environment]\nPASSWORD = "secret"\n',
            [("services.cat.nice", "0", "3"), (f"services.cat.{HIDDEN}", NOT_SHOWN, NOT_SHOWN)],
        ),
    ],
    ids=["same", "moved", "keys", "texts", "other-pools", "defaults", "secret"],
)
def test_each_key_that_differs_is_shown_with_both_values(
    accept: Accept, old: str, new: str, found: list[tuple[str, str, str]]
) -> None:
    """As TOML, and only keys of tables that both have; no variable of a program."""
    assert sorted(between(accept, old, new)) == sorted(found)


def test_another_content_of_a_named_file_is_a_difference(accept: Accept, tmp_path: Path) -> None:
    """Although the values of the keys are the same."""
    quotes, denied = tmp_path / "quotes", tmp_path / "denied"
    text = (
        f'[services.qotd]\nfile = "{quotes}"\nlisten = ["tcp://127.0.0.1:9"]\n'
        f'deny = ["file:{denied}"]\n'
    )
    quotes.write_text("one\n")
    denied.write_text("10.0.0.1\n")
    for file in (quotes, denied):
        file.chmod(0o644)
    old = accept(text).config
    quotes.write_text("another\n")
    denied.write_text("10.0.0.2\n")
    assert [(one.key, one.after) for one in changed_keys(old, accept(text).config)] == [
        ("services.qotd.deny", OF_FILE),
        ("services.qotd", OF_FILE),
    ]


def test_a_long_value_is_cut(accept: Accept) -> None:
    """An answer is bounded."""
    banner = "x" * 4000
    ((_, _, after),) = between(accept, ECHO, f'{ECHO}banner_accepted = "{banner}"\n')
    assert after.endswith("x...")
    assert len(after) < 200
