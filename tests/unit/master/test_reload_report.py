"""What a reload has changed, in its answer and its log line."""

from unpd.control.answer_fields import mismatch
from unpd.control.reload_fields import CHANGES
from unpd.core.model import PoolChange
from unpd.master.reload_report import LISTED, ReloadReport, listed
from unpd.names import ChildKind, PoolOutcome


def test_an_answer_has_the_fields_of_the_table() -> None:
    """The changes in the answer are those that the command line and the manual know."""
    pools = tuple(
        PoolChange(ChildKind.WORKER, str(outcome), outcome, 2, 4) for outcome in PoolOutcome
    )
    fields = ReloadReport(pools, services_added=("a",)).fields(4)
    assert fields["generation"] == 4
    assert mismatch(fields["changes"], CHANGES) == ""
    assert list(fields["changes"]) == [field.name for field in CHANGES]
    assert [change["outcome"] for change in fields["changes"]["pools"]] == list(PoolOutcome)
    assert ReloadReport(pools).pools_with(PoolOutcome.ADDED, PoolOutcome.REMOVED) == (
        "added, removed"
    )


def test_a_field_of_the_log_line_is_bounded() -> None:
    """Of many names, the rest is counted."""
    names = [str(number) for number in range(LISTED + 3)]
    assert listed(names) == f"{', '.join(names[:LISTED])} and 3 more"
    assert listed(names[:LISTED]) == ", ".join(names[:LISTED])
