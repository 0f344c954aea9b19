"""Prints the list of the components that a package carries (SBOM), in CycloneDX:
``sbom.py VERSION SECONDS WHEELS``.

build.py runs this program, with the version of unpd, the time of the build since 1970,
and the directory of the wheels whose content the package carries. A component is one
library, with the hash of each of its wheels: there is one for each version of Python
where it has compiled modules. The same arguments give the same bytes. Errors: a trace.
Nothing of this is needed at run time.
"""

import hashlib
import itertools
import re
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


def main() -> None:
    """Print the list that the command line asks for."""
    version, seconds, directory = sys.argv[1:]
    unpd = Component(
        name="unpd", version=version, type=ComponentType.APPLICATION, bom_ref=f"unpd@{version}"
    )
    carried = list(components(Path(directory)))
    bom = Bom(
        serial_number=serial_number(version, carried),
        metadata=BomMetaData(component=unpd, timestamp=datetime.fromtimestamp(int(seconds), UTC)),
        components=carried,
    )
    bom.register_dependency(unpd, carried)
    print(JsonV1Dot6(bom).output_as_string(indent=2))


def components(directory: Path) -> Iterator[Component]:
    """Each library with the hashes of its wheels."""
    for (name, version), wheels in itertools.groupby(sorted(directory.glob("*.whl")), named):
        url = PackageURL("pypi", None, name, version)
        yield Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=url,
            bom_ref=url.to_string(),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest(one)) for one in wheels],
        )


def named(wheel: Path) -> tuple[str, str]:
    """The name, as the index and the lock write it, and the version of a wheel."""
    name, version, *_ = wheel.name.split("-")
    return re.sub(r"[-_.]+", "-", name).lower(), version


def digest(wheel: Path) -> str:
    """The hash of a file, as the lock writes it."""
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def serial_number(version: str, carried: list[Component]) -> uuid.UUID:
    """A number that only this content has (RFC 9562, name-based)."""
    hashes = sorted(each.content for component in carried for each in component.hashes)
    return uuid.uuid5(uuid.NAMESPACE_URL, " ".join((f"unpd@{version}", *hashes)))


if __name__ == "__main__":
    main()
