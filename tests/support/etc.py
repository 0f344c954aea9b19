"""A configuration of several files in a directory of its own. The tests of unpd.config
use it; nothing starts a daemon.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from unpd.config.host import Host
from unpd.config.load import Loaded, load
from unpd.errors import ConfigError

ORDINARY_UID = 1000


class Etc:
    """A directory with unpd.toml and conf.d, loaded for an ordinary user. Messages are
    returned without its path.
    """

    def __init__(self, path: Path, host: Host) -> None:
        self.main = path / "unpd.toml"
        self.conf_d = path / "conf.d"
        self.host = replace(host, uid=ORDINARY_UID, user="ada")
        path.chmod(0o755)
        self.conf_d.mkdir(mode=0o755)

    def write(self, main: str, **drop_ins: str) -> None:
        """Write unpd.toml and, in the order of writing, conf.d/NAME.toml for
        each NAME.
        """
        files = {
            self.main: main,
            **{self.conf_d / f"{name}.toml": text for name, text in drop_ins.items()},
        }
        for file, text in files.items():
            file.write_text(text)
            file.chmod(0o644)

    def load(self) -> Loaded:
        """Load a valid configuration."""
        return load(self.main, self.host)

    def refusal(self) -> list[str]:
        """Load an invalid configuration. Return the lines of the error."""
        with pytest.raises(ConfigError) as caught:
            self.load()
        return str(caught.value).replace(f"{self.main.parent}/", "").split("\n")
