"""The back-off of respawning: at once, but slower and slower for a child that keeps
dying young.

Never giving up is the point: an administrator who mends the cause finds the service
back within half a minute, without a restart.
"""

from unpd.core.model import Child, Throttle

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 30.0
EARLY_DEATH_S = 1.0
"""A child that was ready for less than this died early."""
PROVEN_S = 10.0
"""A child that was ready for this long clears its slot's record."""


def after_death(prior: Throttle | None, child: Child, now: float) -> Throttle | None:
    """The throttle of the child's slot after its death at ``now``; None: respawn at
    once and remember nothing.
    """
    if child.ready_at is None or now - child.ready_at < EARLY_DEATH_S:
        return after_failure(prior, now)
    if now - child.ready_at >= PROVEN_S or prior is None:
        return None
    return Throttle(prior.failures, now)


def after_failure(prior: Throttle | None, now: float) -> Throttle:
    """The throttle after one more early death or failed fork: 0.1 s, doubling
    to 30 s.
    """
    failures = prior.failures + 1 if prior else 1
    # The exponent is bounded first: 2.0 ** 1024 would overflow after a night of
    # failures.
    delay_s = min(FIRST_DELAY_S * 2.0 ** min(failures - 1, 16), LONGEST_DELAY_S)
    return Throttle(failures, now + delay_s)
