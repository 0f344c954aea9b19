"""Reads the archives of the image: its configuration and the files of its layer."""

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import ROOT
from unpd import __version__


@dataclass(frozen=True, slots=True)
class Image:
    """An image. ``config``: what the container engine reads. ``files``: the entries of
    its only layer, by name. ``layer``: the name by content of that layer, and ``data``
    its bytes.
    """

    config: Mapping[str, Any]
    files: Mapping[str, tarfile.TarInfo]
    layer: str
    data: bytes = field(repr=False)

    def content(self, name: str) -> bytes:
        """The content of a file."""
        with tarfile.open(fileobj=io.BytesIO(self.data)) as archive:
            return _content(archive, self.files[name].name)


def built(form: str) -> Path:
    """The archive that ``make image`` built."""
    path = ROOT / f"dist/unpd-{__version__}-amd64.{form}.tar"
    assert path.exists(), f"{path} is missing: make image"
    return path


def read_docker(path: Path) -> Image:
    """Read an archive in the format of ``docker save``."""
    with tarfile.open(path) as archive:
        (manifest,) = json.loads(_content(archive, "manifest.json"))
        (layer,) = manifest["Layers"]
        return _image(json.loads(_content(archive, manifest["Config"])), _content(archive, layer))


def read_oci(path: Path) -> Image:
    """Read an archive with an image layout of the OCI."""
    with tarfile.open(path) as archive:
        (entry,) = json.loads(_content(archive, "index.json"))["manifests"]
        manifest = json.loads(_blob(archive, entry))
        (layer,) = manifest["layers"]
        return _image(json.loads(_blob(archive, manifest["config"])), _blob(archive, layer))


def _blob(archive: tarfile.TarFile, descriptor: Mapping[str, Any]) -> bytes:
    """The content that a descriptor of the OCI names by its digest."""
    algorithm, _, digest = descriptor["digest"].partition(":")
    return _content(archive, f"blobs/{algorithm}/{digest}")


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    found = archive.extractfile(name)
    assert found is not None, f"{name} is no file"
    return found.read()


def _image(config: Mapping[str, Any], layer: bytes) -> Image:
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        files = {entry.name.strip("/").removeprefix("./"): entry for entry in archive}
    (name,) = config["rootfs"]["diff_ids"]
    return Image(config, files, name, layer)
