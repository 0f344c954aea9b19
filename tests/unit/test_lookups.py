"""Only the resolver of redirects, which has a thread for it, and the commands of people
look names up: a lookup may wait for a server, and would hold up every client.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.support import ROOT

LOOKUPS = frozenset(
    (
        "create_connection",
        "create_server",
        "getaddrinfo",
        "getfqdn",
        "gethostbyaddr",
        "gethostbyname",
        "gethostbyname_ex",
        "getnameinfo",
    )
)
"""What the module socket may look a name up with."""
NUMERIC = "AI_NUMERICHOST"
"""The flag with which getaddrinfo(3) looks nothing up."""
FREE = (ROOT / "unpd/cli", ROOT / "unpd/kernel/resolver.py")


def lookups(source: str) -> Iterator[int]:
    """The lines that may look a name up. Other names than those of the module are not
    seen through.
    """
    if not any(name in source for name in LOOKUPS):
        return
    tree = ast.parse(source)
    numeric = {
        id(call.func)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and any(NUMERIC in ast.unparse(each.value) for each in call.keywords if each.arg == "flags")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in LOOKUPS and id(node) not in numeric:
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and LOOKUPS & {each.name for each in node.names}:
            yield node.lineno


def test_no_module_of_the_daemon_looks_a_name_up() -> None:
    """Addresses that are numbers need no lookup."""
    modules = [
        path
        for path in (ROOT / "unpd").rglob("*.py")
        if not any(path.is_relative_to(free) for free in FREE)
    ]
    found = {path: list(lookups(path.read_text())) for path in modules}
    assert not {path: lines for path, lines in found.items() if lines}
    assert len(modules) > 100, "the search finds the modules"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import socket\nsocket.getfqdn(peer)", [2]),
        ("from socket import gethostbyaddr", [1]),
        ("look = socket.getaddrinfo", [1]),
        ("socket.getaddrinfo(host, port, type=kind)", [1]),
        ("socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST | passive)", []),
    ],
)
def test_a_lookup_is_found(source: str, lines: list[int]) -> None:
    """Called, passed on or imported."""
    assert list(lookups(source)) == lines


def test_the_resolver_looks_names_up() -> None:
    """So the search would find others."""
    assert list(lookups((ROOT / "unpd/kernel/resolver.py").read_text()))
