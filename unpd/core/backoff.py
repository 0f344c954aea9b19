"""The back-off of a slot: a dead child is replaced at once, but more and more slowly if
the children of its slot keep dying early.

Respawning never gives up: after an administrator has removed the cause, the service is
back within half a minute, without a restart. Called by :mod:`unpd.core.machine`.
"""

from unpd.core.model import Child, Throttle

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 30.0
EARLY_DEATH_S = 1.0
"""A child that was ready for less time than this died early."""
PROVEN_S = 10.0
"""A child that was ready for this long ends the back-off of its slot."""


def after_death(prior: Throttle | None, child: Child, now: float) -> Throttle | None:
    """The throttle of the child's slot after its death at ``now``. None: respawn at
    once, and forget earlier deaths.
    """
    if child.ready_at is None or now - child.ready_at < EARLY_DEATH_S:
        return after_failure(prior, now)
    if now - child.ready_at >= PROVEN_S or prior is None:
        return None
    return Throttle(prior.failures, now)


def after_failure(prior: Throttle | None, now: float) -> Throttle:
    """The throttle after one more early death or failed fork. The delay is 0.1 s at
    first and doubles up to 30 s.
    """
    failures = prior.failures + 1 if prior else 1
    # Without a bound, 2.0 ** 1024 would overflow after a night of failures.
    doublings = min(failures - 1, 16)
    delay_s = min(FIRST_DELAY_S * 2.0**doublings, LONGEST_DELAY_S)
    return Throttle(failures, now + delay_s)
