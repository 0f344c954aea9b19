"""The options of redirects: the forms of a target, and what is refused."""

from typing import Any

import pytest

from unpd.board import layout
from unpd.libraries import ValidationError
from unpd.services.redirect import (
    MAX_NAME_CHARACTERS,
    RedirectOptions,
    TcpTarget,
    UnixTarget,
    parse_target,
)

LONGEST_NAME = ".".join(("a" * 63, "b" * 63, "c" * 63, "d" * 61))


@pytest.mark.parametrize(
    ("text", "target", "canonical"),
    [
        ("tcp://10.0.0.5:80", TcpTarget("10.0.0.5", 80), "tcp://10.0.0.5:80"),
        ("tcp://[2001:DB8:0::5]:1", TcpTarget("2001:db8::5", 1), "tcp://[2001:db8::5]:1"),
        ("tcp://[fe80::1%eth0]:65535", TcpTarget("fe80::1%eth0", 65535), None),
        ("tcp://App.Example:80", TcpTarget("app.example", 80, True), "tcp://app.example:80"),
        ("tcp://localhost:080", TcpTarget("localhost", 80, True), "tcp://localhost:80"),
        ("tcp://app.example.:80", TcpTarget("app.example.", 80, True), None),
        ("tcp://db_1.3com.example:80", TcpTarget("db_1.3com.example", 80, True), None),
        (f"tcp://{LONGEST_NAME}:80", TcpTarget(LONGEST_NAME, 80, True), None),
        ("unix:///run/my app.sock", UnixTarget("/run/my app.sock"), None),
    ],
)
def test_a_target_has_one_canonical_form(
    text: str, target: TcpTarget | UnixTarget, canonical: str | None
) -> None:
    """A numeric host, a name in lower case, or a path; the text means the same
    target.
    """
    assert parse_target(text) == target
    assert target.text == (canonical or text)
    assert parse_target(target.text) == target


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("app.example:80", '"app.example:80" is no target; did you mean "tcp://app.example:80"?'),
        ("/run/x", '"/run/x" is no target; did you mean "unix:///run/x"?'),
        ("tcp://::1:80", "an IPv6 address must be in brackets, such as tcp://[::1]:80"),
        ("tcp://app.example", "lacks a port, such as tcp://127.0.0.1:80"),
        ("tcp://[::1]", "lacks a port, such as tcp://127.0.0.1:80"),
        ("tcp://app:0", "the port must be a number from 1 to 65535"),
        ("tcp://app:65536", "the port must be a number from 1 to 65535"),
        ("tcp://app:http", "the port must be a number from 1 to 65535"),
        ("tcp://0.0.0.0:80", "nothing can be reached at 0.0.0.0; this host is 127.0.0.1 or [::1]"),
        ("tcp://[::]:80", "nothing can be reached at ::; this host is 127.0.0.1 or [::1]"),
        ("tcp://10.0.0:80", "this is neither an IPv4 address such as 127.0.0.1 nor a name"),
        ("tcp://1.2.3.256:80", "this is neither an IPv4 address such as 127.0.0.1 nor a name"),
        ("tcp://:80", "this is neither an IPv4 address such as 127.0.0.1 nor a name"),
        ("tcp://224.0.0.1:80", "a multicast or broadcast address takes no connection"),
        ("tcp://[ff02::1]:80", "a multicast or broadcast address takes no connection"),
        ("tcp://255.255.255.255:80", "a multicast or broadcast address takes no connection"),
        ("tcp://[x::1]:80", "this is not an IPv6 address such as [::1]"),
        (
            "tcp://[::ffff:10.0.0.1]:80",
            "write an IPv4 address plainly, as tcp://10.0.0.1:PORT",
        ),
        (
            "tcp://[fe80::1]:80",
            "a link-local address needs its interface, such as [fe80::1%eth0]",
        ),
        (
            "tcp://[2001:db8::1%eth0]:80",
            "only a link-local address (fe80::) takes an interface",
        ),
        ("tcp://-a.example:80", "a name has labels of letters, digits and hyphens"),
        ("tcp://a..example:80", "a name has labels of letters, digits and hyphens"),
        ("tcp://büro.example:80", "a name has labels of letters, digits and hyphens"),
        (f"tcp://a{LONGEST_NAME}:80", "a name has labels of letters, digits and hyphens"),
        ("tcp://a b:80", "a name has labels of letters, digits and hyphens"),
        ("udp://10.0.0.5:80", "must be a target such as"),
        ("tcp://app\n:80", "without control characters"),
        ("unix://run/x", "the path must be absolute, such as unix:///run/app.sock"),
        (f"unix:///{'x' * 107}", "the path of a UNIX socket has at most 107 bytes"),
    ],
)
def test_another_text_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    """It says what is wrong, or what was meant."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared below
        parse_target(text)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_longest_target_fits_on_the_scoreboard() -> None:
    """With the longest name of a service before it."""
    assert len(LONGEST_NAME) == MAX_NAME_CHARACTERS
    key = f"{'s' * 32} tcp://{LONGEST_NAME}.:65535"
    assert len(key) <= layout.TARGET_NAME_WORDS * layout.WORD_BYTES


def test_the_defaults_of_a_redirect() -> None:
    """They are those that config/unpd.toml names."""
    options = RedirectOptions(to=("tcp://127.0.0.1:80",))
    assert options.targets == (TcpTarget("127.0.0.1", 80),)
    assert options.model_dump() == {
        "to": ("tcp://127.0.0.1:80",),
        "connect_timeout_s": 5.0,
        "retry_s": 10.0,
        "resolve_s": 60.0,
        "send_proxy": 0,
    }


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"to": ["tcp://a:1", "tcp://A:1"]}, '"tcp://a:1" is listed twice: remove one of the two'),
        ({"to": [f"tcp://a:{port}" for port in range(1, 18)]}, "at most 16 items"),
        ({"to": [80]}, "valid string"),
        ({"connect_timeout_s": 0}, "greater than or equal to 0.1"),
        ({"retry_s": float("inf")}, "finite number"),
        ({"resolve_s": 0.5}, "greater than or equal to 1"),
        ({"send_proxy": 3}, "less than or equal to 2"),
        ({"send_proxy": True}, "valid integer"),
        ({"timeout": 3}, "not permitted"),
    ],
)
def test_options_out_of_their_bounds_are_refused(keys: dict[str, Any], sentence: str) -> None:
    """Each key has its bounds."""
    with pytest.raises(ValidationError) as caught:
        RedirectOptions.model_validate({"to": ["tcp://a:1"]} | keys)
    assert sentence in str(caught.value)
