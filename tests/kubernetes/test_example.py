"""The README's section "On Kubernetes", word for word: the example, copied and applied,
has pods that serve.

The image has the name that the example gives it on every node, as if a registry had
sent it there; test_as_documented.py of the tests of the image pushes it to one. The
copy is for Kubernetes 1.20, as the overlay is, and lacks the resources of the
Prometheus operator: the API server of 1.20, compiled by a Go of Debian 12, crashes when
it changes a custom resource.
"""

from pathlib import Path

import pytest
import yaml

from tests.kubernetes.cluster import OVERLAY, Cluster
from tests.support import ROOT, clients, documented
from tests.support.manifests import KUSTOMIZATION, kustomization
from tests.support.waiting import until
from unpd import __version__

pytestmark = pytest.mark.kubernetes

LEAST = 3
"""The least number of pods, according to the HorizontalPodAutoscaler."""


def patch(example: Path) -> None:
    """Have the example do without what this Kubernetes 1.20 cannot do."""
    found = kustomization(example)
    found["components"].remove("../monitoring")
    found["patches"] += kustomization(OVERLAY)["patches"]
    (example / KUSTOMIZATION).write_text(yaml.safe_dump(found))


def test_the_example(bare: Cluster, tmp_path: Path) -> None:
    """Each command succeeds. Afterwards as many pods as it asks for are ready, the
    Service leads to them, and the other resources are there.
    """
    copy, apply, rollout = (command for command, _ in documented.typed("On Kubernetes"))
    reference = f"registry.example/unpd:{__version__}"
    (push,) = documented.ways_to_install()["manifests"][0]
    assert push.endswith(f" {reference}")
    for node in bare.nodes:
        node.ctr("images", "tag", f"localhost/unpd:{__version__}", reference)
    (tmp_path / "packaging").symlink_to(ROOT / "packaging")
    bare.type(copy, tmp_path)
    patch(tmp_path / "my-cluster/example")
    try:
        applied = bare.type(apply, tmp_path)
        assert "successfully rolled out" in bare.type(rollout, tmp_path)
        until(lambda: len(bare.ready_pods()) == LEAST, 120.0, bare.state)
        images = {pod["spec"]["containers"][0]["image"] for pod in bare.ready_pods()}
        assert images == {reference}
        until(lambda: serves(bare.service_host()), 60.0, bare.state)
        for resource in ("hpa", "networkpolicy", "pdb"):
            assert bare.kubectl("get", resource, "unpd"), applied
    finally:
        bare.remove()


def serves(host: str) -> bool:
    """Whether both services answer at their ports. kube-proxy hears of a pod a moment
    after that is ready.
    """
    try:
        return (
            len(clients.ask((host, 13)).split()) == 5
            and clients.converse((host, 7), b"hello") == b"hello"
        )
    except ConnectionRefusedError:
        return False
