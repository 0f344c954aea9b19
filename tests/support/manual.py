"""Reads the examples of a manual page, so that tests run them as they stand there."""

import re

from tests.support import ROOT


def example(page: str, begin: str) -> str:
    """The display of a page, such as "unpd-services.7", that begins with ``begin``."""
    source = (ROOT / "packaging/man" / page).read_text()
    displays: list[str] = re.findall(r"^\.Bd -literal.*\n((?:.*\n)*?)\.Ed$", source, re.MULTILINE)
    texts = [text.replace("\\e", "\\").replace("\n\\&", "\n") for text in displays]
    (found,) = (text for text in texts if text.startswith(begin))
    return found
