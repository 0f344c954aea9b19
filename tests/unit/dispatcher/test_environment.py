"""The variables of a program that all clients share."""

import pytest

from unpd.dispatcher import environment


def test_only_what_is_passed_on_comes_from_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH is ours unless a key names it; a key of the configuration wins over the
    daemon's variable, and what the daemon lacks is missing.
    """
    for name, value in {"A": "daemon", "B": "daemon", "PATH": "/daemon"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ABSENT", raising=False)
    of_service = environment.of_service
    assert of_service({}, ()) == {"PATH": environment.PATH}
    assert of_service({"A": "key"}, ("A", "B", "ABSENT")) == {
        "PATH": environment.PATH,
        "A": "key",
        "B": "daemon",
    }
    assert of_service({}, ("PATH",)) == {"PATH": "/daemon"}
    assert of_service({"PATH": "/key"}, ("PATH",)) == {"PATH": "/key"}


def test_names_and_values_are_bytes_for_the_kernel() -> None:
    """In the encoding of file names."""
    assert environment.encoded({"A": "ä", "B": ""}) == {b"A": "ä".encode(), b"B": b""}
