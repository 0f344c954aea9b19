"""Checks of redirects: their models, their targets, and where they may stand."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from unpd.board import layout
from unpd.config.host import Host
from unpd.config.load import Loaded, loads
from unpd.config.plan import effective
from unpd.services.redirect import RedirectOptions

Accept = Callable[[str], Loaded]
Refuse = Callable[[str], list[str]]


def redirect(to: str, listen: str = "tcp://127.0.0.1:80", more: str = "") -> str:
    """A configuration of one redirect."""
    return f'[services.web]\ntype = "redirect"\nlisten = ["{listen}"]\nto = ["{to}"]\n{more}'


def test_a_redirect_needs_targets(refuse: Refuse) -> None:
    """Without them, the sentence says what is missing."""
    sentence = 'must list the targets, such as to = ["tcp://10.0.0.5:80"]'
    text = '[services.web]\ntype = "redirect"\nlisten = ["tcp://127.0.0.1:80"]\n'
    assert refuse(text) == [f"unpd.toml:1: services.web.to: {sentence}"]
    assert refuse(f"{text}to = []\n") == [f"unpd.toml:4: services.web.to: {sentence}"]
    assert refuse(f'{text}to = "tcp://10.0.0.5:80"\n') == [
        (
            "unpd.toml:4: services.web.to: must be a list of 1 to 16 targets, such as"
            ' ["tcp://10.0.0.5:80"]'
        )
    ]


def test_bad_values_are_refused_in_one_sentence_each(refuse: Refuse) -> None:
    """With the key, and with what would be right."""
    text = redirect("10.0.0.5:80", more='retry_s = "5"\nsend_proxy = true\n')
    assert refuse(text) == [
        (
            'unpd.toml:4: services.web.to: "10.0.0.5:80" is no target; did you mean'
            ' "tcp://10.0.0.5:80"?'
        ),
        (
            "unpd.toml:5: services.web.retry_s: must be a number of seconds from 0.1 to 604800;"
            " write it without quotes"
        ),
        (
            "unpd.toml:6: services.web.send_proxy: must be 1 or 2, the version of the header, or 0"
            " for none"
        ),
    ]


def test_a_redirect_takes_no_datagrams(refuse: Refuse) -> None:
    """An address for datagrams is an error."""
    assert refuse(redirect("tcp://10.0.0.5:53", "udp://127.0.0.1:53")) == [
        (
            'unpd.toml:3: services.web.listen: udp://127.0.0.1:53: a service of type "redirect" is'
            " served at addresses with tcp:// or unix://"
        )
    ]


@pytest.mark.parametrize("model", ["fork", "iterative"])
def test_a_redirect_has_the_event_model_only(refuse: Refuse, model: str) -> None:
    """Its own model is refused there, an inherited one in [defaults]."""
    sentence = f'must be "event": "{model}" is impossible for a redirect, which only workers serve'
    text = redirect("tcp://10.0.0.5:80")
    assert refuse(f'{text}model = "{model}"\n') == [f"unpd.toml:5: services.web.model: {sentence}"]
    assert refuse(f'[defaults]\nmodel = "{model}"\n{text}') == [
        f"unpd.toml:2: defaults.model: {sentence} (services.web)"
    ]


@pytest.mark.parametrize(
    ("listen", "to", "more"),
    [
        ("tcp://127.0.0.1:80", "tcp://127.0.0.1:80", ""),
        ("tcp://[::1]:80", "tcp://[::1]:80", ""),
        ("tcp://192.0.2.1:80", "tcp://192.0.2.1:80", ""),
        ("tcp://0.0.0.0:80", "tcp://127.0.0.1:80", ""),
        ("tcp://0.0.0.0:80", "tcp://127.1.2.3:80", ""),
        ("tcp://[::]:80", "tcp://127.0.0.1:80", ""),
        ("tcp://[::]:80", "tcp://[::1]:80", ""),
        ("tcp://[::]:80", "tcp://[::1]:80", "ipv6_only = true"),
        ("tcp://[::]:80", "tcp://localhost:80", ""),
        ("tcp://127.0.0.1:80", "tcp://localhost:80", ""),
        ("unix:///run/x", "unix:///run/x", ""),
    ],
)
def test_a_target_that_is_the_services_own_listener_is_refused(
    refuse: Refuse, listen: str, to: str, more: str
) -> None:
    """Each client would lead to another one."""
    assert refuse(redirect(to, listen, more)) == [
        f'unpd.toml:4: services.web.to: "{to}" leads back to {listen} of this service itself'
    ]


@pytest.mark.parametrize(
    ("listen", "to", "more"),
    [
        ("tcp://127.0.0.1:80", "tcp://127.0.0.1:81", ""),
        ("tcp://127.0.0.1:80", "tcp://[::1]:80", ""),
        ("tcp://0.0.0.0:80", "tcp://[::1]:80", ""),
        ("tcp://0.0.0.0:80", "tcp://10.0.0.5:80", ""),
        ("tcp://[::]:80", "tcp://127.0.0.1:80", "ipv6_only = true"),
        ("tcp://192.0.2.1:80", "tcp://localhost:80", ""),
        ("tcp://[::]:80", "tcp://app.example:80", ""),
        ("tcp://[::]:80", "unix:///run/x", ""),
        ("unix:///run/y", "unix:///run/x", ""),
    ],
)
def test_another_target_is_no_loop(accept: Accept, listen: str, to: str, more: str) -> None:
    """As far as the configuration alone can tell."""
    assert accept(redirect(to, listen, more)).warnings == ()


def test_the_targets_of_all_redirects_have_room_on_the_scoreboard(refuse: Refuse) -> None:
    """More are an error, before the daemon would fail for lack of columns."""
    count = layout.MAX_TARGETS // 16 + 1
    to = ", ".join(f'"tcp://10.0.0.5:{port}"' for port in range(1, 17))
    text = "".join(
        f'[services.web-{number}]\ntype = "redirect"\nlisten = ["tcp://127.0.0.1:{8000 + number}"]'
        f"\nto = [{to}]\n"
        for number in range(count)
    )
    assert refuse(text) == [
        (
            f"unpd.toml:1: services: all redirects together have {16 * count} targets, but at most"
            f" {layout.MAX_TARGETS} are allowed"
        )
    ]


@pytest.mark.parametrize(("limit", "warned"), [(20_016, True), (20_017, False)])
def test_a_connection_of_a_redirect_needs_two_descriptors(
    host: Host, limit: int, warned: bool
) -> None:
    """One for its client, one for its target: a limit of connections that a worker
    could not reach gives a warning.
    """
    text = f"[metrics]\nlisten = false\n{redirect('tcp://10.0.0.5:80')}"
    warnings = loads(text, replace(host, open_files=limit)).warnings
    assert [line for line in warnings if "two descriptors for each of 10000" in line] == (
        list(warnings) if warned else []
    )
    assert len(warnings) == warned


def test_a_tcpmux_offers_no_redirect(refuse: Refuse) -> None:
    """It hands connections over to services, and a redirect is none."""
    mux = '[services.mux]\ntype = "tcpmux"\nlisten = ["tcp://127.0.0.1:1"]\nservices = ["web"]\n'
    assert refuse(redirect("tcp://10.0.0.5:80") + mux) == [
        (
            'unpd.toml:8: services.mux.services: "web" is a redirect, which takes its clients from'
            " listeners only"
        )
    ]


def test_the_effective_configuration_has_the_targets(accept: Accept) -> None:
    """In canonical form, and it can be loaded again."""
    text = redirect("tcp://App.Example:80", more="send_proxy = 2\nretry_s = 2.5\n")
    loaded = accept(text)
    assert 'to = ["tcp://app.example:80"]\n' in effective(loaded.config)
    assert accept(effective(loaded.config)).config == loaded.config
    options = loaded.config.services["web"].options
    assert isinstance(options, RedirectOptions)
    assert (options.send_proxy, options.retry_s) == (2, 2.5)
