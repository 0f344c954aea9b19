"""Redirects: whatever fails and whenever, each client tries every target once; and
whatever stands in the configuration is a target with one canonical form, or refused.
"""

from hypothesis import given
from hypothesis import strategies as st

from unpd.errors import quoted
from unpd.services.redirect import parse_target
from unpd.worker.redirect.rotation import Rotation

RETRY_S = 10.0
TARGETS = 4

steps = st.lists(
    st.tuples(
        st.sampled_from(("client", "failed", "succeeded")),
        st.integers(0, TARGETS - 1),
        st.floats(0, 2 * RETRY_S),
    ),
    max_size=40,
)


@given(steps)
def test_each_client_tries_every_target_once_and_those_that_failed_last(
    history: list[tuple[str, int, float]],
) -> None:
    """Those that are left out stand behind all others, the one that is back first
    before the rest.
    """
    rotation, now = Rotation(TARGETS, RETRY_S), 0.0
    back_at = dict.fromkeys(range(TARGETS), 0.0)
    for what, target, passed_s in history:
        now += passed_s
        if what == "failed":
            rotation.failed(target, now)
            back_at[target] = now + RETRY_S
        elif what == "succeeded":
            rotation.succeeded(target)
            back_at[target] = 0.0
        order = rotation.order(now)
        assert sorted(order) == list(range(TARGETS))
        left_out = [back_at[each] if back_at[each] > now else 0.0 for each in order]
        assert left_out == sorted(left_out)


@given(st.integers(1, TARGETS), st.integers(1, 50))
def test_targets_that_can_be_reached_get_clients_evenly(count: int, rounds: int) -> None:
    """As many each, after every whole round."""
    rotation = Rotation(count, RETRY_S)
    firsts = [rotation.order(0.0)[0] for _ in range(count * rounds)]
    assert [firsts.count(target) for target in range(count)] == [rounds] * count


hosts = st.text("abz019.-_:[]%/ ", max_size=20) | st.ip_addresses().map(str)
texts = st.text(max_size=40) | st.builds(
    lambda scheme, host, port: f"{scheme}{host}:{port}",
    st.sampled_from(("tcp://", "tcp://[", "unix:///", "unix://", "")),
    hosts,
    st.integers(0, 70_000),
)


@given(texts)
def test_a_text_is_a_target_with_one_form_or_refused_in_one_line(text: str) -> None:
    """The canonical text means the same target. A refusal is one line, which quotes the
    text or says its bound.
    """
    refusal = ""
    try:
        target = parse_target(text)
        assert parse_target(target.text) == target
    except ValueError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert not refusal or quoted(text) in refusal or "at most" in refusal
