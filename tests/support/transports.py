"""The part of a channel's transport that most fakes need not have."""

from collections.abc import Iterable
from typing import Any

Ancillary = tuple[int, int, bytes]


class WithoutDescriptors:
    """Neither sends nor receives descriptors."""

    def sendmsg(self, buffers: Iterable[bytes], ancillary: Iterable[Ancillary], /) -> int:
        """Refuse."""
        raise AssertionError(f"no descriptor was expected: {buffers!r}, {ancillary!r}")

    def recvmsg(
        self, size: int, ancillary_size: int, flags: int, /
    ) -> tuple[bytes, list[Ancillary], int, Any]:
        """Refuse."""
        raise AssertionError(f"no descriptor was expected: {size}, {ancillary_size}, {flags}")
