"""The table of policies: every kind of child has its row, here and in the master."""

import re

from tests.support import ROOT
from unpd.board.layout import SERVING_KINDS
from unpd.core.policy import LAST_SHARE, POLICIES
from unpd.master.children.kinds import KINDS
from unpd.names import ChildKind


def test_every_kind_has_a_policy_and_a_life() -> None:
    """A new kind of child needs a row in both tables, and nothing else."""
    assert set(POLICIES) == set(ChildKind) == set(KINDS)


def test_some_kind_serves_and_all_have_an_end() -> None:
    """The metrics count the kinds that serve, and at a stop every kind ends within
    grace_s.
    """
    assert {kind for kind, policy in POLICIES.items() if policy.serves} == set(SERVING_KINDS)
    assert all(0 < policy.stop_share <= LAST_SHARE < 1 for policy in POLICIES.values())


def test_no_other_module_of_the_core_knows_a_kind() -> None:
    """The core decides by policy. Only the number of workers, which a signal changes,
    belongs to one kind.
    """
    named = {
        path.name: re.findall(r"ChildKind\.[A-Z]+", path.read_text())
        for path in sorted((ROOT / "unpd/core").glob("*.py"))
    }
    named.pop("policy.py")
    assert {name: kinds for name, kinds in named.items() if kinds} == {
        "model.py": ["ChildKind.WORKER", "ChildKind.WORKER"]
    }
