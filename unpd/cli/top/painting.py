"""The lines of ``unpd top`` as a terminal shows them, by the library rich.

The only module that imports rich, which may not be installed. Called by the screen.
rich decides by TERM and COLORTERM which colours it sends, and with NO_COLOR it sends
none (https://no-color.org). Raises nothing.
"""

import io
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rich.console import Console, Group
from rich.text import Text

from unpd.cli.top.layout import Line, Size

STYLES: Mapping[str, str] = MappingProxyType(
    {
        "": "",
        "good": "green",
        "warning": "yellow",
        "bad": "bold red",
        "head": "bold",
        "cursor": "reverse",
        "dim": "dim",
        "hint": "dim",
    }
)
"""The styles of rich for those of a line. Each mark also stands in words beside it, for
those who see no colours.
"""


def painted(lines: Sequence[Line]) -> Group:
    """The lines for a console of rich."""
    return Group(
        *(
            Text.assemble(
                *((span.text, STYLES[span.style]) for span in line), no_wrap=True, overflow="crop"
            )
            for line in lines
        )
    )


class Painter:
    """Makes the bytes of each frame. They are for the terminal's other screen, so that
    what it showed before comes back at the end.
    """

    def __init__(self) -> None:
        self._out = io.StringIO()
        # Made for a file in memory, the console cannot ask for the size by itself.
        self._console = Console(
            file=self._out,
            force_terminal=True,
            no_color=bool(os.environ.get("NO_COLOR")),
            width=80,
            height=25,
        )

    def begin(self) -> bytes:
        """Go to the other screen, without a cursor."""
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)
        return self._taken()

    def end(self) -> bytes:
        """Go back."""
        self._console.show_cursor(True)
        self._console.set_alt_screen(False)
        return self._taken()

    def frame(self, lines: Sequence[Line], size: Size) -> bytes:
        """The whole screen anew."""
        self._console.size = (size.width, size.height)
        self._console.update_screen(painted(lines))
        return self._taken()

    def _taken(self) -> bytes:
        made = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return made.encode(errors="backslashreplace")
