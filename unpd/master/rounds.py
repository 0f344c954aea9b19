"""Rounds: one question to many children, and what they answer.

A round is over when every child that it waits for has answered or died, or after
ANSWER_S: a child that does not answer is reported, and not waited for.

:mod:`unpd.master.kicking` and :mod:`unpd.master.levelling` begin rounds; the shell
looks after them once a second. Calls :mod:`unpd.master.children.reports`. Raises
nothing.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from unpd.core.model import Slot
from unpd.loop import now
from unpd.master.children import reports
from unpd.master.runtime import Question, Round, Runtime
from unpd.names import kind_words

ANSWER_S = 3.0
"""How long a child may take to answer: one that serves takes milliseconds."""


def child_words(slot: Slot, pid: int) -> str:
    """A child in words, such as ``worker default/0 (pid 41)``."""
    return f"{kind_words(slot.kind)} {slot} (pid {pid})"


def begin(runtime: Runtime, message: Mapping[str, Any], births: Iterable[int], of: Round) -> None:
    """Ask the children ``births``; the round ``of`` waits for some of them."""
    of.late_at = now() + ANSWER_S
    runtime.rounds.append(of)
    for birth in births:
        of.asking = birth
        reports.ask(runtime, birth, Question(message, partial(_answered, runtime, of, birth)))
    of.asking = 0
    _end_if_over(runtime, of)


def _answered(runtime: Runtime, of: Round, birth: int, answer: Mapping[str, Any] | None) -> None:
    """Take the answer of a child. None for one that was asked means that it has died.
    None at once means that its channel is broken or full.
    """
    died = answer is None and of.asking != birth
    if answer is None and of.outlived(birth):
        return
    makes_sense = died or of.take(birth, answer)
    name = of.waiting.pop(birth, None)
    if name is not None and not makes_sense:
        of.silent.append(name)
    _end_if_over(runtime, of)


def settle(runtime: Runtime, of: Round, birth: int) -> None:
    """Wait no longer for a child that has died."""
    of.waiting.pop(birth, None)
    _end_if_over(runtime, of)


def look_after(runtime: Runtime, at: float) -> None:
    """End the rounds for which children take too long. Call it about once a second;
    ``at`` is the time.
    """
    for of in [each for each in runtime.rounds if each.late_at <= at]:
        of.silent.extend(of.waiting.values())
        of.waiting.clear()
        _end_if_over(runtime, of)


def _end_if_over(runtime: Runtime, of: Round) -> None:
    if not of.waiting and not of.asking and of in runtime.rounds:  # no late answer
        runtime.rounds.remove(of)
        of.finish()
