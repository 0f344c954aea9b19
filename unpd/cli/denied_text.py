"""The texts that ``unpd deny``, ``unpd undeny`` and ``unpd denied`` print for people.

Called by the commands with answers that have every field of their tables in
:mod:`unpd.control.client_fields`. Raises nothing.
"""

from collections.abc import Sequence

from unpd.cli.output import printable
from unpd.cli.tables import Values, aligned
from unpd.kernel.privileges import user_name
from unpd.wording import counted

_HEADER = ("NETWORK", "REASON", "SINCE", "UNTIL", "BY")


def denied(answer: Values) -> str:
    """What a denial has done."""
    denial = answer["denial"]
    until = denial["until"] or "it is taken back"
    before = ", in the place of its denial before" if answer["replaced"] else ""
    lines = [f"{denial['network']} is denied until {until}{before}"]
    if answer["kicked"] is not None:
        lines.append(f"{counted(answer['kicked'], 'open connection')} ended")
    return "\n".join(lines)


def silence(answer: Values) -> str:
    """A complaint about processes that have not ended their connections; "" if all
    have.
    """
    number = answer["silent"]
    if not number:
        return ""
    return (
        f"{counted(number, 'process')} did not answer: connections of"
        f" {answer['denial']['network']} may be open there; unpd status shows the processes"
    )


def undenied(answer: Values) -> str:
    """That a denial was taken back."""
    return f"{answer['denial']['network']} is no longer denied"


def table(denials: Sequence[Values]) -> str:
    """The list of denials: a line for each."""
    if not denials:
        return "no network is denied"
    return aligned([_HEADER, *map(_row, denials)])


def _row(denial: Values) -> tuple[str, ...]:
    """The cells of a denial. Its texts may be those of another user."""
    by = f"sensor {denial['service']}" if denial["uid"] is None else user_name(denial["uid"])
    cells = (
        denial["network"],
        denial["reason"] or "-",
        denial["since"],
        denial["until"] or "taken back",
        by,
    )
    return tuple(map(printable, cells))
