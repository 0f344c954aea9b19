"""The table of services."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from unpd.config.schema import ServiceConfig
from unpd.names import is_name
from unpd.services.base import Conversation, ServiceType
from unpd.services.redirect import Redirect
from unpd.services.table import SERVICES

NEEDED: Mapping[str, dict[str, Any]] = MappingProxyType(
    {"exec": {"command": ("/bin/true",)}, "python": {"handler": "module:function"}}
)
"""Options without a default, of the types that no engine serves."""


@pytest.mark.parametrize(
    ("name", "rfc", "port"),
    [
        ("echo", 862, 7),
        ("discard", 863, 9),
        ("chargen", 864, 19),
        ("qotd", 865, 17),
        ("daytime", 867, 13),
        ("time", 868, 37),
        ("tcpmux", 1078, 1),
        ("sensor", None, 0),
        ("exec", None, 0),
        ("redirect", None, 0),
        ("python", None, 0),
    ],
)
def test_rows(name: str, rfc: int | None, port: int) -> None:
    """The table has each service with its RFC and its well-known port."""
    assert (SERVICES[name].rfc, SERVICES[name].port) == (rfc, port)


@pytest.mark.parametrize("row", SERVICES.values(), ids=list(SERVICES))
def test_row_is_valid(row: ServiceType) -> None:
    """A row's name is valid, its options do not hide a common key, and its service can
    be made. If an engine serves it, all its options have defaults. A worker serves a
    redirect in a way of its own.
    """
    assert is_name(row.name)
    assert SERVICES[row.name] is row
    assert not set(row.options.model_fields) & ServiceConfig.model_fields.keys()
    if row.served_by is not None:
        assert row.make(row.options.model_validate(NEEDED[row.name]))
        return
    service = row.make(row.options())
    if row.stream and not isinstance(service, Redirect):
        assert isinstance(service.greet(0.0), bytes)
        assert isinstance(service.converse(), Conversation | None)
    if row.datagram:
        answer = service.answer(b"", None, 0.0)
        assert isinstance(answer(56) if callable(answer) else answer, bytes | None)
    assert row.stream or row.datagram


def test_table_is_closed() -> None:
    """The table cannot be changed at run time."""
    with pytest.raises(TypeError):
        SERVICES["finger"] = SERVICES["echo"]  # type: ignore[index]
