"""Who may use which verb of the control socket, with and without control.read_group."""

import os
from pathlib import Path

import pytest

from unpd.config.control import ReadGroup
from unpd.control.callers import Callers
from unpd.control.verbs import VERBS
from unpd.kernel.credentials import Credentials

READERS = ReadGroup("watch", 4242)
STRANGER = 2_000_000_001
OTHER_GROUP = 2_000_000_002


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is of this process's user and group, as the socket is."""
    file = tmp_path / "control.sock"
    file.touch()
    return file


def caller(uid: int, gid: int = OTHER_GROUP, groups: tuple[int, ...] = ()) -> Credentials:
    """A process with these numbers, which descends from nobody here."""
    return Credentials(1, uid, gid, groups)


def answers(path: Path, who: Credentials, readers: ReadGroup | None = READERS) -> dict[str, str]:
    """What each verb is answered, "" where it is carried out."""
    callers = Callers(children_uid=STRANGER + 9, path=str(path), readers=readers)
    return {name: callers.refusal_of(verb, who) for name, verb in VERBS.items()}


@pytest.mark.parametrize("groups", [(), (READERS.gid,)])
def test_root_the_daemon_and_its_group_may_use_every_verb(
    path: Path, groups: tuple[int, ...]
) -> None:
    """Also where they are in the group that may look; the group counts as the first or
    as another one.
    """
    own = path.stat().st_gid
    for who in (
        caller(0, groups=groups),
        caller(os.geteuid(), groups=groups),
        caller(STRANGER, own, groups),
        caller(STRANGER, groups=(*groups, own)),
    ):
        assert set(answers(path, who).values()) == {""}


@pytest.mark.parametrize(
    "who", [caller(STRANGER, READERS.gid), caller(STRANGER, groups=(OTHER_GROUP, READERS.gid))]
)
def test_the_read_group_may_use_the_verbs_that_change_nothing(path: Path, who: Credentials) -> None:
    """Every verb that changes something is refused, by its name."""
    said = answers(path, who)
    assert {name for name, reason in said.items() if not reason} == {
        name for name, verb in VERBS.items() if not verb.changes
    }
    assert said["stop"] == (
        f'user {STRANGER} may not use unpd stop: the group "watch" (control.read_group) may only'
        " look, so ask as root, as the daemon's user or with the group of its control socket"
    )


def test_a_stranger_who_can_connect_may_use_no_verb(path: Path) -> None:
    """The mode of the file may let more users connect than the two groups."""
    said = answers(path, caller(STRANGER))
    assert all(said.values())
    assert said["status"] == (
        f"user {STRANGER} may not use unpd status: only root, the daemon's user, the group of its"
        ' control socket and the group "watch" (control.read_group) may'
    )


def test_without_the_key_the_mode_of_the_file_alone_decides(path: Path) -> None:
    """As before there were two levels."""
    assert set(answers(path, caller(STRANGER), readers=None).values()) == {""}


def test_while_the_file_is_gone_the_daemons_own_group_counts(path: Path) -> None:
    """The daemon makes the file again within a second."""
    path.unlink()
    callers = Callers(STRANGER, str(path), readers=READERS)
    assert callers.may_change(caller(STRANGER, os.getegid()))
    assert not callers.may_change(caller(STRANGER, READERS.gid))
