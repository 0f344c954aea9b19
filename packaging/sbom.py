"""Prints the list of the components that a package or the image carries (SBOM), in
CycloneDX: ``sbom.py VERSION SECONDS WHEELS``.

build.py runs this program, with the version of unpd, the time of the build since 1970,
and the directory of the wheels whose content is carried. A component is one
library, with its licence as its wheels state it. Below it is a file for each of its
wheels, with the hash: there is one for each version of Python where it has compiled
modules. The same arguments give the same bytes. Errors: SystemExit if a wheel states no
licence, or if the wheels of one library state several; else a trace. Nothing of this is
needed at run time.
"""

import email
import hashlib
import itertools
import re
import sys
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import fixup_id, is_expression
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
    """Each library with its wheels."""
    for (name, version), group in itertools.groupby(sorted(directory.glob("*.whl")), named):
        wheels = list(group)
        url = PackageURL("pypi", None, name, version)
        yield Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=url,
            bom_ref=url.to_string(),
            licenses=[licence(stated(wheels))],
            components=[file(wheel) for wheel in wheels],
        )


def named(wheel: Path) -> tuple[str, str]:
    """The name, as the index and the lock write it, and the version of a wheel."""
    name, version, *_ = wheel.name.split("-")
    return re.sub(r"[-_.]+", "-", name).lower(), version


def file(wheel: Path) -> Component:
    """A wheel with its hash, as the lock writes it."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return Component(
        name=wheel.name,
        type=ComponentType.FILE,
        bom_ref=wheel.name,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )


def stated(wheels: Sequence[Path]) -> str:
    """The licence that the wheels of one library state. SystemExit."""
    found = {licence_of(wheel) for wheel in wheels}
    if len(found) != 1 or "" in found:
        raise SystemExit(f"{wheels[0].name}: no licence, or several: {sorted(found)}")
    return found.pop()


def licence_of(wheel: Path) -> str:
    """The licence in the metadata of a wheel, "" if there is none: the expression, else
    the name in the older field, else that of the classifier, else the first line of a
    text in the older field
    (https://packaging.python.org/en/latest/specifications/core-metadata/).
    """
    with zipfile.ZipFile(wheel) as archive:
        (place,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        metadata = email.message_from_string(archive.read(place).decode())
    classified = [
        classifier.rpartition(" :: ")[2]
        for classifier in metadata.get_all("Classifier", [])
        if classifier.startswith("License :: ")
    ]
    first, *rest = (metadata["License"] or "").strip().split("\n")
    name, title = ("", first) if rest else (first, "")
    candidates = (metadata["License-Expression"], name, *classified, title)
    # Older tools write UNKNOWN where there is nothing.
    return next((each for each in candidates if each and each != "UNKNOWN"), "")


def licence(text: str) -> License:
    """A licence by its SPDX identifier, as an expression of several, or by its name."""
    if identifier := fixup_id(text):
        return DisjunctiveLicense(id=identifier)
    return LicenseExpression(text) if is_expression(text) else DisjunctiveLicense(name=text)


def serial_number(version: str, carried: list[Component]) -> uuid.UUID:
    """A number that only this content has (RFC 9562, name-based)."""
    files = (file for library in carried for file in library.components)
    hashes = sorted(each.content for file in files for each in file.hashes)
    return uuid.uuid5(uuid.NAMESPACE_URL, " ".join((f"unpd@{version}", *hashes)))


if __name__ == "__main__":
    main()
