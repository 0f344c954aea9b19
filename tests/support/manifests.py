"""Reads the manifests in packaging/kubernetes, as they stand there and as kustomize
renders them. The tests of these and the tests on a real cluster use it.
"""

import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support import ROOT

Manifest = dict[str, Any]

PLACE = ROOT / "packaging/kubernetes"
DIRECTORIES = ("base", "autoscaling", "monitoring", "example")
KUSTOMIZATION = "kustomization.yaml"
OPERATOR_SCHEMAS = Path(__file__).parent / "operator_schemas.json"
"""The JSON schemas of the Prometheus operator's resources by their kinds, and where
they come from.
"""
TIMEOUT_S = 60.0


def load(path: Path) -> list[Manifest]:
    """Return the resources in one file."""
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def kustomization(directory: Path) -> Manifest:
    """Return what a directory's kustomization.yaml says."""
    (found,) = load(directory / KUSTOMIZATION)
    return found


def resources(directory: Path) -> Iterator[Manifest]:
    """Yield the resources of a kustomization, of those that it builds on and of its
    components, without their patches and the ConfigMaps that it makes.
    """
    found = kustomization(directory)
    for name in (*found.get("resources", ()), *found.get("components", ())):
        place = directory / name
        yield from resources(place) if place.is_dir() else load(place)


def rendered(directory: Path) -> list[Manifest]:
    """Return what kustomize makes of a directory. It needs kubectl 1.27 or later
    (tests/kubernetes/install-kubectl). AssertionError, with what it says, if it refuses
    the directory or warns.
    """
    done = subprocess.run(
        ["kubectl", "kustomize", directory],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def one(manifests: Sequence[Manifest], kind: str) -> Manifest:
    """Return the only resource of a kind."""
    (found,) = (each for each in manifests if each["kind"] == kind)
    return found


def container(deployment: Manifest) -> Manifest:
    """Return the only container of a Deployment."""
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def config(directory: Path) -> Manifest:
    """Return the configuration of unpd that a kustomization gives to the pods."""
    return tomllib.loads((directory / "unpd.toml").read_text())
