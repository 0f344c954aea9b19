"""What the children use, sampled."""

from unpd.kernel.procfs import Usage
from unpd.master.usages import AT_A_TIME, WINDOW_S, Usages, Used


class Processes:
    """The usage of processes, by pid; the pids that were read."""

    def __init__(self) -> None:
        self.cpu_s: dict[int, float] = {}
        self.read: list[int] = []

    def usage(self, pid: int) -> Usage | None:
        """Read one; a hidden process has none."""
        self.read.append(pid)
        return Usage(self.cpu_s[pid], 4096) if pid in self.cpu_s else None


def test_the_load_is_that_of_the_last_seconds() -> None:
    """A child that was busy before is idle now. One sample tells no load."""
    processes = Processes()
    usages = Usages(processes.usage)
    processes.cpu_s[70] = 10.0
    usages.take({7: 70}, 100.0)
    assert usages.of(7) == Used(10.0, None, 4096)
    processes.cpu_s[70] = 11.0
    usages.take({7: 70}, 102.0)
    assert usages.of(7) == Used(11.0, 50.0, 4096)
    for tenth in range(int(WINDOW_S * 10) - 20 + 1):  # the master may sweep so often
        usages.take({7: 70}, 102.0 + tenth / 10)
    assert usages.of(7) == Used(11.0, 20.0, 4096)
    usages.take({7: 70}, 100.1 + WINDOW_S)
    assert usages.of(7) == Used(11.0, 0.0, 4096)


def test_a_child_that_is_gone_or_hidden_uses_nothing() -> None:
    """The next child may have its pid."""
    processes = Processes()
    usages = Usages(processes.usage)
    processes.cpu_s[70] = 10.0
    usages.take({7: 70, 8: 80}, 1.0)
    assert usages.of(8) is None
    usages.take({9: 70}, 2.0)
    assert usages.of(7) is None
    assert usages.of(9) == Used(10.0, None, 4096)


def test_many_children_are_sampled_in_turns() -> None:
    """No sweep reads more than its share, and each child has its turn."""
    processes = Processes()
    usages = Usages(processes.usage)
    pids = {birth: birth + 1000 for birth in range(1, 2 * AT_A_TIME + 2)}
    for second in range(3):
        processes.read.clear()
        usages.take(pids, float(second))
        assert len(processes.read) == AT_A_TIME
    assert processes.read[0] == pids[2 * AT_A_TIME + 1]
    assert processes.read[1] == pids[1]
    few = Processes()
    once = Usages(few.usage)
    once.take({1: 10, 2: 20}, 0.0)
    once.take({1: 10, 2: 20}, 1.0)
    assert sorted(few.read) == [10, 10, 20, 20]
