"""The deny list of the master: when changes reach the children, and when the file."""

import json
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.memory_sink import MemorySink
from unpd.access.denials import Denial, DenialError
from unpd.access.network import Network
from unpd.board.layout import Master
from unpd.board.memory import Scoreboard
from unpd.logs import Log
from unpd.master import deny_list, state_file
from unpd.master.deny_list import PAUSE_S, RETRY_S, SAVE_S, DenyList
from unpd.names import Fault

ADDRESS = Network.parse("192.0.2.7")
FAULT = (Fault.DENIALS_NOT_SAVED, "")


def denial(text: str = "192.0.2.7", until: float | None = None) -> Denial:
    """A denial of an operator."""
    return Denial(network=Network.parse(text), since=0.0, until=until, reason="scan", uid=0)


class Scene:
    """A list with a board, a log and the faults of a daemon."""

    def __init__(self) -> None:
        self.words = [0] * Master.size
        self.sink = MemorySink()
        self.faults: dict[tuple[Fault, str], str] = {}
        board = cast(Scoreboard, SimpleNamespace(words=self.words))
        self.denials = DenyList(board, Log(self.sink.sink, "info", "json"), self.faults)

    def shown(self) -> bool:
        """Whether children see the denial of ADDRESS."""
        return self.denials.denied.find(4, ADDRESS.first) is not None

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of the log with that event."""
        return [row for row in map(json.loads, self.sink.lines) if row["event"] == name]


@pytest.fixture(name="scene")
def made_scene() -> Scene:
    """A new list."""
    return Scene()


def test_nothing_is_due_at_first(scene: Scene) -> None:
    """A daemon without denials does no work for them."""
    assert scene.denials.due_at is None
    scene.denials.look(1e9)
    assert len(scene.denials) == 0


def test_a_change_is_published_in_the_next_turn(scene: Scene) -> None:
    """Children and metrics see it, also the end of it."""
    scene.denials.deny(denial())
    due_at = scene.denials.due_at
    assert due_at is not None
    assert due_at <= 100.0
    scene.denials.look(100.0)
    assert scene.shown()
    assert scene.words[Master.DENIALS] == 1
    scene.denials.undeny(ADDRESS)
    scene.denials.look(200.0)
    assert not scene.shown()
    assert scene.words[Master.DENIALS] == 0
    assert scene.denials.due_at is None


def test_changes_that_come_quickly_are_published_together(scene: Scene) -> None:
    """PAUSE_S after the last time, and not before: a flood of changes costs little."""
    scene.denials.deny(denial("198.51.100.1"))
    scene.denials.look(100.0)
    scene.denials.deny(denial("198.51.100.2"))
    scene.denials.deny(denial())
    assert scene.denials.due_at == 100.0 + PAUSE_S
    scene.denials.look(100.0 + PAUSE_S / 2)
    assert not scene.shown()
    scene.denials.look(100.0 + PAUSE_S)
    assert scene.shown()


def test_a_question_can_wait_for_no_pause(scene: Scene) -> None:
    """Before the master asks for the connections of a network, no other gets in."""
    scene.denials.deny(denial("198.51.100.1"))
    scene.denials.look(100.0)
    scene.denials.deny(denial())
    scene.denials.publish_now(100.0)
    assert scene.shown()


def test_a_denial_ends_without_help(scene: Scene) -> None:
    """The shell is told when, and the children see it then."""
    scene.denials.deny(denial(until=130.0))
    scene.denials.look(100.0)
    assert scene.denials.due_at == 130.0
    scene.denials.look(129.9)
    assert scene.shown()
    scene.denials.look(130.0)
    scene.denials.look(130.0 + PAUSE_S)
    assert not scene.shown()
    assert len(scene.denials) == 0


def test_a_refused_change_changes_nothing(scene: Scene) -> None:
    """Nothing is published for it."""
    with pytest.raises(DenialError):
        scene.denials.undeny(ADDRESS)
    assert scene.denials.due_at is None


def test_a_time_has_one_text(scene: Scene) -> None:
    """However its measurement varies; but after the wall clock was set, the new one."""
    assert scene.denials.epoch_s(1e9) == 1e9
    assert scene.denials.epoch_s(1e9 + 0.1) == 1e9
    assert scene.denials.epoch_s(1e9 - 0.1) == 1e9
    assert scene.denials.epoch_s(1e9 + 3600) == 1e9 + 3600


# --- the file -------------------------------------------------------------------------


@pytest.fixture(name="path")
def made_path(tmp_path: Path) -> Path:
    """Where the file will be."""
    return tmp_path / "denials"


def stored(path: Path) -> list[str]:
    """The networks in a file."""
    return [json.loads(line)["network"] for line in path.read_text().splitlines()[1:]]


def test_the_next_master_goes_on_with_the_denials(scene: Scene, path: Path) -> None:
    """With their ends too, though its clock is another one. Its children see them from
    the start.
    """
    scene.denials.use_file(str(path), 100.0)
    assert not path.exists()
    scene.denials.deny(denial(until=200.0))
    scene.denials.look(100.0)
    assert stat.S_IMODE(path.stat().st_mode) == state_file.MODE
    later = Scene()
    later.denials.use_file(str(path), 50_100.0)
    assert later.shown()
    assert later.words[Master.DENIALS] == 1
    (found,) = later.denials.after(None, 10)
    assert found.until == pytest.approx(50_200.0, abs=1.0)
    assert (found.reason, found.uid) == ("scan", 0)
    assert [line["denials"] for line in later.events("denials.restored")] == [1]


def test_the_file_is_written_at_most_once_a_second(scene: Scene, path: Path) -> None:
    """The first change at once, the next ones together."""
    scene.denials.use_file(str(path), 100.0)
    scene.denials.deny(denial("198.51.100.1"))
    scene.denials.look(100.0)
    for number in range(3):
        scene.denials.deny(denial(f"198.51.100.{number + 2}"))
        scene.denials.look(100.1 + number / 10)
        assert stored(path) == ["198.51.100.1"]
    assert scene.denials.due_at == 100.0 + SAVE_S
    scene.denials.look(100.0 + SAVE_S)
    assert len(stored(path)) == 4
    assert scene.denials.due_at is None


def test_a_long_list_is_written_less_often(
    scene: Scene, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To write it takes longer: in a flood of denials that must not be all the master
    does. The end of the master waits for nothing.
    """
    monkeypatch.setattr(deny_list, "SAVE_EACH", 2)
    scene.denials.use_file(str(path), 100.0)
    scene.denials.deny(denial("198.51.100.0"))
    scene.denials.look(100.0)
    for number in range(1, 5):
        scene.denials.deny(denial(f"198.51.100.{number}"))
        scene.denials.look(100.0 + SAVE_S)
    assert len(stored(path)) == 1
    scene.denials.look(100.0 + 2 * SAVE_S)
    assert len(stored(path)) == 5
    scene.denials.deny(denial("198.51.100.5"))
    assert scene.denials.due_at == 100.0 + 2 * SAVE_S + PAUSE_S
    scene.denials.look(100.0 + 4 * SAVE_S)
    assert len(stored(path)) == 5
    scene.denials.close(100.0 + 4 * SAVE_S)
    assert len(stored(path)) == 6


def test_the_end_of_the_master_loses_nothing(scene: Scene, path: Path) -> None:
    """What waited for its second is written, and no second time."""
    scene.denials.use_file(str(path), 100.0)
    scene.denials.deny(denial("198.51.100.1"))
    scene.denials.look(100.0)
    scene.denials.deny(denial())
    scene.denials.close(100.1)
    assert len(stored(path)) == 2
    before = path.stat().st_ino
    scene.denials.close(100.2)
    assert path.stat().st_ino == before


def test_without_a_file_nothing_is_written(scene: Scene, tmp_path: Path) -> None:
    """That is the default."""
    scene.denials.use_file("", 100.0)
    scene.denials.deny(denial())
    scene.denials.look(100.0)
    scene.denials.close(200.0)
    assert list(tmp_path.iterdir()) == []


def test_a_reload_may_name_another_file(scene: Scene, path: Path) -> None:
    """What that one holds is added, and all is written to it. The old one stays."""
    other = path.with_name("other")
    one = Scene()
    one.denials.use_file(str(other), 100.0)
    one.denials.deny(denial())
    one.denials.close(101.0)
    scene.denials.use_file(str(path), 100.0)
    scene.denials.deny(denial("198.51.100.1"))
    scene.denials.look(100.0)
    scene.denials.use_file(str(other), 200.0)
    assert scene.shown()
    scene.denials.look(200.0)
    assert stored(path) == ["198.51.100.1"]
    assert stored(other) == ["198.51.100.1", "192.0.2.7"]
    scene.denials.use_file("", 300.0)
    scene.denials.undeny(ADDRESS)
    scene.denials.look(300.0)
    assert stored(other) == ["198.51.100.1", "192.0.2.7"]


def test_the_same_file_again_is_not_read(scene: Scene, path: Path) -> None:
    """A reload that leaves it alone brings back no denial that was taken back."""
    scene.denials.use_file(str(path), 100.0)
    scene.denials.deny(denial())
    scene.denials.look(100.0)
    scene.denials.undeny(ADDRESS)
    scene.denials.use_file(str(path), 100.1)
    assert len(scene.denials) == 0


def test_a_damaged_file_is_kept_and_named(scene: Scene, path: Path) -> None:
    """The warning names the file and the line. The good lines hold, the file is made
    anew, and the damaged one is kept under a name that was free.
    """
    list_of_one = Scene()
    list_of_one.denials.deny(denial())
    list_of_one.denials.use_file(str(path), 100.0)
    list_of_one.denials.close(100.0)
    header, line = path.read_text().splitlines()
    damaged = "\n".join([header.replace('"count": 1', '"count": 3'), "garbage", line, "{}", ""])
    for name in ("denials.broken", "denials.broken2"):
        path.write_text(damaged)
        scene = Scene()
        scene.denials.use_file(str(path), 100.0)
        (warning,) = scene.events("denials.damaged")
        assert warning["level"] == "warning"
        assert [warning[key] for key in ("file", "line", "lines")] == [str(path), 2, 2]
        assert warning["reason"] == "it is no line of JSON"
        assert warning["kept"] == str(path.with_name(name))
        assert path.with_name(name).read_text() == damaged
        assert scene.shown()
        scene.denials.look(100.0)
        assert stored(path) == ["192.0.2.7"]
        assert not scene.faults


def test_a_file_of_somebody_else_is_left_alone(scene: Scene, path: Path) -> None:
    """Neither a directory nor a link nor a foreign text is read, moved away or
    replaced, even if the configuration could not tell. The daemon is degraded, and says
    why.
    """
    secret = path.with_name("secret")
    one = Scene()
    one.denials.use_file(str(secret), 100.0)
    one.denials.deny(denial())
    one.denials.close(100.0)
    foreign = path.with_name("passwd")
    foreign.write_text("root:x:0:0")
    path.with_name("directory").mkdir()
    path.with_name("link").symlink_to(secret)
    before = sorted(path.parent.iterdir())
    for name, reason in (
        ("directory", "it is no plain file"),
        ("link", "it is no plain file"),
        ("passwd", "it holds something else than live denials"),
    ):
        scene = Scene()
        place = path.with_name(name)
        scene.denials.use_file(str(place), 100.0)
        assert not scene.shown()
        scene.denials.deny(denial("198.51.100.1"))
        scene.denials.look(200.0)
        assert scene.faults[FAULT] == (
            f"the live denials cannot be written to {place}: it cannot be read, and stays as it"
            f" is: {reason}"
        )
        assert len(scene.events("denials.not_saved")) == 1
    assert sorted(path.parent.iterdir()) == before
    assert foreign.read_text() == "root:x:0:0"
    assert stored(secret) == ["192.0.2.7"]


def test_a_damaged_file_that_cannot_be_kept_is_not_overwritten(
    scene: Scene, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon is degraded instead, and says why."""
    monkeypatch.setattr(state_file, "_SPARE_NAMES", 2)
    damaged = '{"unpd_denials": 1'
    path.write_text(damaged)
    path.with_name("denials.broken").write_text("older garbage")
    scene.denials.use_file(str(path), 100.0)
    (warning,) = scene.events("denials.damaged")
    assert warning["kept"] == ""
    assert "cannot be moved away" in scene.faults[FAULT]
    scene.denials.deny(denial())
    scene.denials.look(200.0)
    assert path.read_text() == damaged
    assert FAULT in scene.faults
    scene.denials.use_file("", 300.0)
    assert scene.faults == {}


def test_a_file_that_cannot_be_written_is_a_fault_until_it_can(scene: Scene, path: Path) -> None:
    """It is logged once, and tried again. The denial holds meanwhile."""
    directory = path / "state"
    scene.denials.use_file(str(directory / "denials"), 100.0)
    scene.denials.deny(denial())
    scene.denials.look(200.0)
    assert scene.shown()
    assert "No such file or directory" in scene.faults[FAULT]
    scene.denials.look(200.0 + RETRY_S)
    assert len(scene.events("denials.not_saved")) == 1
    directory.mkdir(parents=True)
    assert scene.denials.due_at == 200.0 + 2 * RETRY_S
    scene.denials.look(200.0 + 2 * RETRY_S)
    assert scene.faults == {}
    assert stored(directory / "denials") == ["192.0.2.7"]
    assert [each.name for each in directory.iterdir()] == ["denials"]
