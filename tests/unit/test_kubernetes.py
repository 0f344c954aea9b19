"""The manifests for Kubernetes agree with each other, with the program, and with what
Kubernetes accepts.
"""

import copy
import ipaddress
import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support import ROOT, faults
from tests.support.manifests import (
    DIRECTORIES,
    KUSTOMIZATION,
    OPERATOR_SCHEMAS,
    PLACE,
    Manifest,
    config,
    container,
    kustomization,
    load,
    one,
    rendered,
    resources,
)
from tests.support.manual import example
from unpd import __version__
from unpd.config.host import Host
from unpd.config.load import loads
from unpd.metrics.catalog.row import Gauge
from unpd.metrics.catalog.table import METRICS

VERSIONS = ("1.29", "1.33", "1.37")
"""Of Kubernetes: the oldest that the manifests are for, and two that are in use."""
OPERATOR = "monitoring.coreos.com/"
CONFIGURATIONS = ("base", "example")
ADAPTER = PLACE / "autoscaling/prometheus-adapter.yaml"
POD = Host(uid=65532, user="65532", runtime_dir="/run/unpd", somaxconn=4096, cpus=64)
"""A pod on a large node."""
ALL = [*resources(PLACE / "example")]
DEPLOYMENT = one(ALL, "Deployment")
CONTAINER = container(DEPLOYMENT)
SPEC: Manifest = DEPLOYMENT["spec"]["template"]["spec"]
LABELS: Manifest = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
PORTS = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}


def validated(version: str, manifests: list[Manifest], file: Path) -> tuple[int, list[str]]:
    """Run ``kubernetes-validate --strict``. Return its exit code and its lines."""
    file.write_text(yaml.safe_dump_all(manifests))
    done = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "-k", version, "--strict", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


def without_operator(manifests: list[Manifest]) -> list[Manifest]:
    """The resources that Kubernetes itself defines."""
    return [each for each in manifests if not each["apiVersion"].startswith(OPERATOR)]


# the directories


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_kustomization_names_the_files_beside_it(name: str) -> None:
    """No manifest and no configuration is left out, and none is missing."""
    found = kustomization(PLACE / name)
    (named,) = [each["files"] for each in found.get("configMapGenerator", ())] or [[]]
    named += [each for each in found["resources"] if not each.startswith("../")]
    there = {path.name for path in (PLACE / name).iterdir()} - {KUSTOMIZATION, ADAPTER.name}
    assert sorted(named) == sorted(there)


def test_the_example_has_all_directories() -> None:
    """An operator who copies it gets the base and every component."""
    found = kustomization(PLACE / "example")
    named = (*found["resources"], *found["components"])
    others = {f"../{name}" for name in DIRECTORIES} - {"../example"}
    assert {each for each in named if each.startswith("../")} == others
    assert {path.name for path in PLACE.iterdir()} == set(DIRECTORIES)


@faults.requires_tool("kubectl")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_new_configuration_is_rolled_out(name: str, tmp_path: Path) -> None:
    """Any change of unpd.toml gives the ConfigMap another name, also in the pods'
    template, so that the Deployment replaces its pods.
    """
    mine = shutil.copytree(PLACE, tmp_path / "kubernetes") / name
    names = set()
    for line in ("", "# changed\n"):
        with (mine / "unpd.toml").open("a") as file:
            file.write(line)
        made = rendered(mine)
        volumes = one(made, "Deployment")["spec"]["template"]["spec"]["volumes"]
        (used,) = (each["configMap"]["name"] for each in volumes if "configMap" in each)
        config_map = one(made, "ConfigMap")
        assert config_map["metadata"]["name"] == used
        assert config_map["data"] == {"unpd.toml": (mine / "unpd.toml").read_text()}
        names.add(used)
    assert len(names) == 2


@faults.requires_tool("kubectl")
def test_the_patches_of_the_example_apply() -> None:
    """The autoscaler owns the number of pods, the Service is a load balancer that keeps
    the addresses of clients, and every resource lies in the namespace.
    """
    made = rendered(PLACE / "example")
    assert "replicas" not in one(made, "Deployment")["spec"]
    assert container(one(made, "Deployment"))["image"] == f"registry.example/unpd:{__version__}"
    service = one(made, "Service")["spec"]
    assert (service["type"], service["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
    namespace = one(made, "Namespace")["metadata"]["name"]
    inside = [each["metadata"]["namespace"] for each in made if each["kind"] != "Namespace"]
    assert set(inside) == {namespace}
    assert {each["kind"] for each in made} == {each["kind"] for each in ALL} | {"ConfigMap"}


# what Kubernetes accepts


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_the_manifests(version: str, tmp_path: Path) -> None:
    """Each resource fits the schema of this very version, without an unknown key."""
    manifests = without_operator(ALL)
    code, lines = validated(version, manifests, tmp_path / "manifests.yaml")
    assert code == 0, lines
    passed = [line for line in lines if line.endswith(f"against version {version}")]
    assert len(passed) == len(manifests), lines


@pytest.mark.slow
@faults.requires_tool("kubectl")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_kubernetes_accepts_what_kustomize_makes(version: str, name: str, tmp_path: Path) -> None:
    """The same of the resources with their patches."""
    manifests = without_operator(rendered(PLACE / name))
    code, lines = validated(version, manifests, tmp_path / "manifests.yaml")
    assert code == 0, lines
    passed = [line for line in lines if line.endswith(f"against version {version}")]
    assert len(passed) == len(manifests), lines


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    """The check of the manifests can fail."""
    wrong = {**one(ALL, "Service"), "specs": {}}
    code, lines = validated(VERSIONS[0], [wrong], tmp_path / "manifests.yaml")
    assert code != 0
    assert any("specs" in line for line in lines)


@pytest.mark.parametrize("kind", ["PodMonitor", "PrometheusRule"])
def test_the_operator_accepts_its_resources(kind: str) -> None:
    """They fit the operator's own types, without an unknown key."""
    schema = json.loads(OPERATOR_SCHEMAS.read_text())[kind]
    jsonschema.validate(one(ALL, kind), schema)
    wrong = copy.deepcopy(one(ALL, kind))
    (wrong["spec"].get("groups") or wrong["spec"]["podMetricsEndpoints"])[0]["intervals"] = "15s"
    with pytest.raises(jsonschema.ValidationError, match="intervals"):
        jsonschema.validate(wrong, schema)


# security


def test_the_pods_are_restricted() -> None:
    """The pods meet the Pod Security Standard that the example's namespace enforces,
    and more: no token, no writable root, no service account's links.
    """
    labels = one(ALL, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pod, own = SPEC["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert {pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]} == {POD.uid}
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert SPEC["automountServiceAccountToken"] is False
    assert not SPEC.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert not any("hostPort" in port for port in CONTAINER["ports"])


def test_only_the_files_of_the_daemon_can_be_written() -> None:
    """The pid file and the control socket lie on the one writable volume, and the
    configuration where the command names it.
    """
    volumes = {each["name"]: each for each in SPEC["volumes"]}
    mounts = {each["mountPath"]: each for each in CONTAINER["volumeMounts"]}
    writable = [path for path, mount in mounts.items() if not mount.get("readOnly")]
    assert ["emptyDir" in volumes[mounts[path]["name"]] for path in writable] == [True]
    for name in CONFIGURATIONS:
        daemon = config(PLACE / name)["daemon"]
        assert {str(Path(daemon[key]).parent) for key in ("pid_file", "control")} == {*writable}
    (config_path,) = (path for path in mounts if path not in writable)
    generator = kustomization(PLACE / "base")["configMapGenerator"][0]
    assert volumes[mounts[config_path]["name"]]["configMap"]["name"] == generator["name"]
    for command in (CONTAINER["command"], CONTAINER["livenessProbe"]["exec"]["command"]):
        assert command[-2:] == ["--config", f"{config_path}/{generator['files'][0]}"]


# the parts fit together


def test_the_image_is_of_this_version() -> None:
    """The tag is the version of this tree."""
    assert CONTAINER["image"] == f"unpd:{__version__}"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_configuration_is_accepted(name: str) -> None:
    """The file loads in a pod without a warning."""
    loaded = loads((PLACE / name / "unpd.toml").read_text(), POD)
    assert loaded.warnings == ()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_ports_agree(name: str) -> None:
    """The container declares each port on which the configuration listens, under the
    service's name. The Service and the PodMonitor use these names, the NetworkPolicy
    opens the services to all and the metrics to Prometheus, and no port needs a
    privilege.
    """
    configured = config(PLACE / name)
    addresses = {
        service: table["listen"][0] for service, table in configured["services"].items()
    } | {"metrics": configured["metrics"]["listen"]}
    assert {service: f"tcp://[::]:{port}" for service, port in PORTS.items()} == addresses
    assert min(PORTS.values()) >= 1024
    services = set(PORTS) - {"metrics"}
    reached = {port["name"]: port["targetPort"] for port in one(ALL, "Service")["spec"]["ports"]}
    assert reached == {service: service for service in services}
    (endpoint,) = one(ALL, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics")
    anyone, prometheus = one(ALL, "NetworkPolicy")["spec"]["ingress"]
    assert "from" not in anyone
    assert {rule["port"] for rule in anyone["ports"]} == {PORTS[service] for service in services}
    assert [rule["port"] for rule in prometheus["ports"]] == [PORTS["metrics"]]
    assert prometheus["from"]


def test_the_service_has_the_ports_of_the_protocols() -> None:
    """Clients find each service where its RFC puts it."""
    ports = {port["name"]: port["port"] for port in one(ALL, "Service")["spec"]["ports"]}
    assert ports == {"daytime": 13, "echo": 7}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_stop_has_its_time(name: str) -> None:
    """The kubelet kills a pod only after the daemon has cut its last connection."""
    daemon = config(PLACE / name)["daemon"]
    assert daemon["lame_duck_s"] > 0
    assert SPEC["terminationGracePeriodSeconds"] > daemon["lame_duck_s"] + daemon["grace_s"]


def test_endpoints_are_withdrawn_in_the_lame_time() -> None:
    """Whoever watches /readyz, as the kubelet does, sees the 503 before the listeners
    close.
    """
    probe = CONTAINER["readinessProbe"]
    notice_s = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    for name in CONFIGURATIONS:
        assert notice_s < config(PLACE / name)["daemon"]["lame_duck_s"]


def test_every_selector_selects_the_pods() -> None:
    """The labels that each resource asks for are those of the pods."""
    selectors = [
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        one(ALL, "Service")["spec"]["selector"],
        one(ALL, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(ALL, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        one(ALL, "PodMonitor")["spec"]["selector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in SPEC["topologySpreadConstraints"]),
    ]
    assert all(selector and selector.items() <= LABELS.items() for selector in selectors)


def test_no_update_takes_a_pod_away_first() -> None:
    """A rolling update adds a pod before it ends one, and a drain of nodes leaves
    pods.
    """
    update = DEPLOYMENT["spec"]["strategy"]["rollingUpdate"]
    assert update == {"maxSurge": 1, "maxUnavailable": 0}
    budget = one(ALL, "PodDisruptionBudget")["spec"]["maxUnavailable"]
    least = one(ALL, "HorizontalPodAutoscaler")["spec"]["minReplicas"]
    assert budget < min(DEPLOYMENT["spec"]["replicas"], least)


# scaling and monitoring


def test_the_autoscaler_has_its_metric() -> None:
    """It scales the Deployment by a gauge of the catalogue, which the rule of
    prometheus-adapter gives for each pod; and below what a pod takes.
    """
    spec = one(ALL, "HorizontalPodAutoscaler")["spec"]
    target = spec["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"]) == (DEPLOYMENT["apiVersion"], DEPLOYMENT["kind"])
    assert target["name"] == DEPLOYMENT["metadata"]["name"]
    (metric,) = (each["pods"] for each in spec["metrics"])
    name = metric["metric"]["name"]
    assert isinstance({row.name: row for row in METRICS}[name], Gauge)
    pool = config(PLACE / "base")["pools"]["default"]
    room = pool["workers"] * pool["max_connections_per_worker"]
    assert int(metric["target"]["averageValue"]) < room
    (adapter,) = load(ADAPTER)
    (rule,) = adapter["rules"]["custom"]
    assert rule["seriesQuery"].startswith(f"{name}{{")
    assert re.fullmatch(rule["name"]["matches"], name)
    assert {*rule["resources"]["overrides"]} == {"namespace", "pod"}


@faults.requires_tool("promtool")
def test_the_question_of_the_adapter_is_promql(tmp_path: Path) -> None:
    """What prometheus-adapter makes of the rule is an expression."""
    (adapter,) = load(ADAPTER)
    (rule,) = adapter["rules"]["custom"]
    expr = (
        rule["metricsQuery"]
        .replace("<<.Series>>", rule["seriesQuery"].partition("{")[0])
        .replace("<<.LabelMatchers>>", 'namespace="unpd",pod=~"unpd-1|unpd-2"')
        .replace("<<.GroupBy>>", "pod")
    )
    assert expr == 'sum by (pod) (unpd_connections_active{namespace="unpd",pod=~"unpd-1|unpd-2"})'
    file = tmp_path / "rules.yaml"
    rules = [
        {"record": "of:adapter", "expr": expr},
        {"record": "of:series", "expr": rule["seriesQuery"]},
    ]
    file.write_text(yaml.safe_dump({"groups": [{"name": "adapter", "rules": rules}]}))
    subprocess.run(["promtool", "check", "rules", file], check=True, timeout=60)


@pytest.fixture
def script() -> dict[str, Any]:
    """The names of packaging/prometheusrule.py."""
    return runpy.run_path(str(ROOT / "packaging/prometheusrule.py"))


def test_the_prometheus_rule_is_new(script: dict[str, Any]) -> None:
    """The file is what ``make prometheusrule`` makes of the alert rules, all of them.
    Only what they advise may differ.
    """
    assert script["text"]() == script["PLACE"].read_text()
    (rules,) = load(script["RULES"])
    assert without_actions(one(ALL, "PrometheusRule")["spec"]) == without_actions(rules)


def without_actions(spec: Manifest) -> list[Manifest]:
    """The groups of rules, without what each advises."""
    groups: list[Manifest] = copy.deepcopy(spec["groups"])
    for rule in (rule for group in groups for rule in group["rules"]):
        del rule["annotations"]["action"]
    return groups


def test_the_alerts_advise_what_a_cluster_has(script: dict[str, Any]) -> None:
    """Neither systemd nor a host is there."""
    spec = yaml.safe_dump(one(ALL, "PrometheusRule")["spec"], width=10_000)
    assert "`kubectl describe pod --namespace {{ $labels.namespace }}" in spec
    words = {*re.findall(r"[\w=]+", spec)}
    assert words.isdisjoint({"systemctl", "journalctl", "journal", "ps", "unit"})
    assert "that host" not in spec
    assert not [word for word in words if word.endswith("=") and word[0].isupper()]


@pytest.mark.parametrize(
    "advice",
    ["Ask `systemctl show unpd`.", "Raise\n            Nice= of the unit.", "See the journal."],
)
def test_an_alert_that_advises_something_else_of_a_host(
    script: dict[str, Any], advice: str
) -> None:
    """The script names it, and writes nothing."""
    rules = script["RULES"].read_text() + f"\n      - alert: UnpdNew\n          action: {advice}\n"
    with pytest.raises(ValueError, match=r"^UnpdNew says '.*', which a cluster does not have"):
        script["in_a_cluster"](rules)


def test_words_for_which_there_is_no_alert(script: dict[str, Any]) -> None:
    """They are named too."""
    rules = script["RULES"].read_text().replace("TasksMax=", "all limits")
    with pytest.raises(ValueError, match="no alert says 'TasksMax= of the unit'"):
        script["in_a_cluster"](rules)


def test_the_alerts_name_the_pod() -> None:
    """The label by which the alerts tell daemons apart is the pod's name."""
    (endpoint,) = one(ALL, "PodMonitor")["spec"]["podMetricsEndpoints"]
    (relabeling,) = endpoint["relabelings"]
    assert relabeling == {
        "sourceLabels": ["__meta_kubernetes_pod_name"],
        "targetLabel": "instance",
    }
    groups = one(ALL, "PrometheusRule")["spec"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    assert all("$labels.instance" in rule["annotations"]["summary"] for rule in rules)


# --- who may come in ------------------------------------------------------------------


def lets_in(policies: list[Manifest], address: str, port: int) -> bool:
    """Whether any rule of policies that select the same pods lets a client come in:
    what they allow adds up. A rule without ``from`` is for everybody, one without
    ``ports`` for every port; a namespace has none of our addresses.
    """
    client = ipaddress.ip_address(address)

    def is_in(block: Manifest) -> bool:
        return client in ipaddress.ip_network(block["cidr"]) and not any(
            client in ipaddress.ip_network(network) for network in block.get("except", [])
        )

    return any(
        ("ports" not in rule or port in [each["port"] for each in rule["ports"]])
        and (
            "from" not in rule
            or any(is_in(peer["ipBlock"]) for peer in rule["from"] if "ipBlock" in peer)
        )
        for policy in policies
        for rule in policy["spec"]["ingress"]
    )


@faults.requires_tool("kubectl")
def test_the_manuals_patch_keeps_a_network_out(tmp_path: Path) -> None:
    """The patch of unpd(8), in a kustomization, makes a policy that Kubernetes accepts.
    It denies the network the services, and gives nobody the metrics. A policy with the
    same rule beside ours would do neither.
    """
    shutil.copytree(PLACE, tmp_path / "kubernetes")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "patch.json").write_text(example("unpd.8", '[\n  {\n    "op"'))
    patch = {"path": "patch.json", "target": {"kind": "NetworkPolicy", "name": "unpd"}}
    asked = {"resources": ["../kubernetes/base"], "patches": [patch]}
    (mine / KUSTOMIZATION).write_text(yaml.safe_dump(asked))
    policy, patched = one(ALL, "NetworkPolicy"), one(rendered(mine), "NetworkPolicy")
    code, lines = validated(VERSIONS[0], [patched], tmp_path / "patched.yaml")
    assert code == 0, lines
    second = copy.deepcopy(policy)
    second["spec"]["ingress"] = [{"from": patched["spec"]["ingress"][0]["from"]}]
    for port in (PORTS["echo"], PORTS["daytime"]):
        assert lets_in([policy], "192.0.2.7", port)
        assert not lets_in([patched], "192.0.2.7", port)
        assert lets_in([patched], "198.51.100.1", port)
        assert lets_in([patched], "2001:db8::1", port)
        assert lets_in([policy, second], "192.0.2.7", port)
    assert not lets_in([patched], "198.51.100.1", PORTS["metrics"])
    assert lets_in([policy, second], "198.51.100.1", PORTS["metrics"])
