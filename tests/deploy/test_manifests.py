"""Facts that no schema knows: what one field says about another, here and in the code."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml

from local.nats_server import binary
from services.chat.config import Config as ChatConfig
from services.tts.config import Config as TtsConfig
from shared.nats.provision import consumers
from tests.authority import Authority
from tests.deploy.conftest import ROOT
from tests.deploy.manifests import Overlay, Workload, selects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

KUBERNETES = "1.34"
CUSTOM = {"ScaledObject", "PodMonitor", "PrometheusRule", "ExternalSecret", "Certificate", "Issuer"}
# Settings that name a file, beside those that end in _FILE.
FILES = ("NATS_CA", "NATS_CERT", "NATS_KEY", "MINIO_CA", "SSL_CERT_FILE")
CLOSING_SECONDS = 15  # shared/process.py: the broker 10, the HTTP server 5
CONFIGS: dict[str, type[ChatConfig | TtsConfig]] = {"chat": ChatConfig, "tts": TtsConfig}


class Recording(dict[str, str]):
    """An environment that knows what was looked up in it."""

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__(given)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def settings_of(service: str) -> set[str]:
    """Every variable that a service's Config reads."""
    needed = {"TOGETHER_API_KEY": "k", "MINIO_ACCESS_KEY": "a", "MINIO_SECRET_KEY": "s"}
    environ = Recording(needed)
    CONFIGS[service].from_env(environ)
    return environ.asked


def config_map(overlay: Overlay) -> dict[str, str]:
    return dict(overlay.one("ConfigMap", "parley-config")["data"])


def environment(workload: Workload) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for c in workload.containers for e in c.get("env", [])}


def mounted(workload: Workload) -> dict[str, str]:
    """Where each volume is mounted."""
    return {
        mount["name"]: mount["mountPath"]
        for container in workload.containers
        for mount in container.get("volumeMounts", [])
    }


def sources(workload: Workload) -> Iterator[tuple[str, str, list[str], str]]:
    """Every ConfigMap and Secret that a pod mounts: kind, name, keys (none: all), volume."""
    for volume in workload.spec.get("volumes", []):
        found = volume.get("projected", {}).get("sources", [volume])
        for source in found:
            for field, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
                if field in source:
                    what = source[field]
                    name = what.get("name") or what["secretName"]
                    yield kind, name, [i["key"] for i in what.get("items", [])], volume["name"]


def test_every_object_is_valid_to_the_letter(overlay: Overlay) -> None:
    # Here, since it takes 3 s: every worker of the suite reads this file, and none runs it.
    import kubernetes_validate  # noqa: PLC0415

    for found in overlay.objects:
        if found["kind"] not in CUSTOM:
            kubernetes_validate.validate(found, KUBERNETES, strict=True)


def test_everything_is_in_one_namespace_with_enforced_restrictions(overlay: Overlay) -> None:
    namespace = overlay.all("Namespace")[0]
    labels = namespace["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for found in overlay.objects:
        if found is not namespace and found["kind"] != "PriorityClass":  # a cluster's, not ours
            assert found["metadata"]["namespace"] == namespace["metadata"]["name"], found


def test_every_selector_selects_its_own_pods(overlay: Overlay) -> None:
    for workload in overlay.workloads():
        if workload.kind != "Job":
            assert selects(workload.whole["spec"]["selector"], workload.labels), workload.name
        for constraint in workload.spec.get("topologySpreadConstraints", []):
            assert selects(constraint["labelSelector"], workload.labels), workload.name
    for budget in overlay.all("PodDisruptionBudget"):
        chosen = [
            w.name for w in overlay.workloads() if selects(budget["spec"]["selector"], w.labels)
        ]
        assert chosen == [budget["metadata"]["name"]]


def test_every_port_of_a_service_is_one_of_its_pods(overlay: Overlay) -> None:
    for service in overlay.all("Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        chosen = [w for w in overlay.workloads() if selects(selector, w.labels)]
        assert len(chosen) == 1, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in chosen[0].ports
            assert port["port"] == chosen[0].ports[port["targetPort"]]


def test_policies_name_peers_that_exist_and_ports_that_are_open(overlay: Overlay) -> None:
    workloads = list(overlay.workloads())
    for policy in overlay.all("NetworkPolicy"):
        name, spec = policy["metadata"]["name"], policy["spec"]
        own = _ports(spec["podSelector"], workloads)
        assert own is not None or not spec["podSelector"], f"{name} selects nothing"
        for rule in spec.get("ingress", []):
            assert rule["from"], f"{name} lets everybody in"
            for port in rule["ports"]:
                assert port["port"] in (own or set()), f"{name}: nobody listens on {port}"
            for peer in rule["from"]:
                if "namespaceSelector" not in peer and "parley/" not in str(peer):
                    assert _ports(peer["podSelector"], workloads) is not None, f"{name}: {peer}"
        for rule in spec.get("egress", []):
            assert rule["to"], f"{name} lets out to everywhere"
            for peer in rule["to"]:
                assert rule["ports"], name
                if "namespaceSelector" in peer or "ipBlock" in peer:
                    continue
                theirs = _ports(peer["podSelector"], workloads)
                assert theirs is not None, f"{name}: no pod is {peer}"
                assert {port["port"] for port in rule["ports"]} <= theirs, f"{name}: {peer}"


def _ports(selector: dict[str, Any], workloads: list[Workload]) -> set[int] | None:
    """The ports of all pods that a selector selects; none when it selects none."""
    if not selector:
        return None
    found = [set(w.ports.values()) for w in workloads if selects(selector, w.labels)]
    return set().union(*found) if found else None


def test_every_way_out_has_a_way_in(overlay: Overlay) -> None:
    """An egress to pods of ours is of use only if their own policy lets it in."""
    policies = overlay.all("NetworkPolicy")
    for policy in policies:
        for rule in policy["spec"].get("egress", []):
            for peer in rule["to"]:
                if "namespaceSelector" in peer or "ipBlock" in peer:
                    continue
                target = peer["podSelector"]["matchLabels"]
                senders = [
                    w
                    for w in overlay.workloads()
                    if selects(policy["spec"]["podSelector"], w.labels)
                ]
                for sender in senders:
                    assert any(
                        selects(other["spec"]["podSelector"], target)
                        and any(
                            "podSelector" in source
                            and "namespaceSelector" not in source
                            and selects(source["podSelector"], sender.labels)
                            for inward in other["spec"].get("ingress", [])
                            if {p["port"] for p in rule["ports"]}
                            <= {p["port"] for p in inward["ports"]}
                            for source in inward["from"]
                        )
                        for other in policies
                    ), f"{sender.name} may not reach {target} after all"


def test_nothing_is_let_in_or_out_without_a_policy(overlay: Overlay) -> None:
    deny = overlay.one("NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for workload in overlay.workloads():
        assert any(
            policy["spec"]["podSelector"]
            and selects(policy["spec"]["podSelector"], workload.labels)
            for policy in overlay.all("NetworkPolicy")
        ), workload.name


def test_a_pod_is_given_time_for_the_turns_in_hand(overlay: Overlay) -> None:
    grace = float(config_map(overlay)["SHUTDOWN_GRACE"])
    given = {k: v for k, v in config_map(overlay).items() if k not in FILES}
    assert grace > ChatConfig.from_env({"TOGETHER_API_KEY": "k", **given}).turn_timeout
    for workload in overlay.services():
        sleep = workload.spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        given = workload.spec["terminationGracePeriodSeconds"]
        assert given > sleep + grace + CLOSING_SECONDS, workload.name
        strategy = workload.whole["spec"]["strategy"]["rollingUpdate"]
        assert strategy["maxUnavailable"] == 0
        assert workload.whole["spec"].get("replicas", 2) >= 2


def test_every_setting_is_one_that_a_service_reads(overlay: Overlay) -> None:
    """A name with a slip of the pen would be passed over in silence."""
    known = {service: settings_of(service) for service in CONFIGS}
    unknown = set(config_map(overlay)) - known["chat"] - known["tts"]
    assert not unknown
    for workload in overlay.services():
        assert not set(environment(workload)) - known[workload.name], workload.name


def test_every_service_starts_with_what_its_manifest_says(overlay: Overlay, tmp_path: Any) -> None:
    for workload in overlay.services():
        environ = {**config_map(overlay), "HTTP_HOST": "0.0.0.0", **environment(workload)}
        for name, path in environ.items():
            if name.endswith("_FILE") or name in FILES:
                file = tmp_path / path.rpartition("/")[2]
                file.write_text("secret")
                environ[name] = str(file)
        CONFIGS[workload.name].from_env(environ)


def test_every_mounted_and_named_key_exists(overlay: Overlay) -> None:
    for workload in overlay.workloads():
        where = mounted(workload)
        files = set()
        for kind, name, keys, volume in sources(workload):
            there = overlay.data(kind, name)
            assert set(keys) <= there, f"{workload.name}: {name} has {there}"
            files |= {f"{where[volume]}/{key}" for key in keys or there}
        reads = workload.name in {"chat", "tts", "provision"}
        shared = config_map(overlay) if reads else {}
        for name, value in {**shared, **environment(workload)}.items():
            if name.endswith("_FILE") or name in FILES:
                assert value in files, f"{workload.name}: {name} names {value}, there are {files}"
        for container in workload.containers:
            for source in container.get("envFrom", []):
                assert overlay.data("ConfigMap", source["configMapRef"]["name"])


def test_no_service_is_given_a_secret_that_it_does_not_need(overlay: Overlay) -> None:
    given = {
        w.name: {n for kind, n, _, _ in sources(w) if kind == "Secret"} for w in overlay.workloads()
    }
    for workload, secrets in given.items():
        owner = {"provision": "operator", "store-setup": "store"}.get(workload, workload)
        for secret in secrets:
            name = re.sub(r"-[a-z0-9]{10}$", "", secret)
            assert name in {f"parley-{owner}", f"parley-{owner}-tls"}, f"{workload}: {secret}"


def test_every_pod_meets_the_restricted_standard(overlay: Overlay) -> None:
    for workload in overlay.workloads():
        pod = workload.spec["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert workload.spec["automountServiceAccountToken"] is False
        for container in workload.containers:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True, workload.name
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            if workload.kind != "Job" and container.get("ports"):  # a reloader serves nobody
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    assert container[probe]["httpGet"]["port"] in workload.ports, workload.name


def images(overlay: Overlay) -> dict[str, str]:
    return {c["image"]: w.name for w in overlay.workloads() for c in w.containers}


def test_images_are_pinned(overlay: Overlay) -> None:
    for image, workload in images(overlay).items():
        assert ":latest" not in image
        if image.startswith("localhost/parley-"):  # built here; a registry gives a digest
            assert re.fullmatch(r"localhost/parley-[a-z]+:\d+\.\d+\.\d+", image), workload
        else:
            assert re.search(r"@sha256:[0-9a-f]{64}$", image), f"{workload}: {image}"


def test_autoscaling_looks_at_consumers_that_exist(overlay: Overlay) -> None:
    known = {(each.stream, each.name) for each in consumers()}
    for scaled in overlay.all("ScaledObject"):
        target = scaled["spec"]["scaleTargetRef"]["name"]
        deployment = overlay.one("Deployment", target)
        assert "replicas" not in deployment["spec"], "KEDA and an apply would fight for it"
        (trigger,) = scaled["spec"]["triggers"]
        facts = trigger["metadata"]
        assert (facts["stream"], facts["consumer"]) in known
        assert facts["consumer"] == f"{target}-workers"
        assert facts["account"] == "PARLEY"  # of deploy/nats/users.conf
        assert facts["activationLagThreshold"] == "0"
        assert scaled["spec"]["cooldownPeriod"] == 300
        fallback, least = scaled["spec"]["fallback"], scaled["spec"]["minReplicaCount"]
        assert fallback["replicas"] >= least, "an outage of the monitoring would scale down"
        assert fallback["behavior"] == "currentReplicasIfHigher"
        behavior = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        (policy,) = behavior["scaleDown"]["policies"]
        given = overlay.one("Deployment", target)["spec"]["template"]["spec"]
        assert policy["type"] == "Pods"
        assert policy["periodSeconds"] > given["terminationGracePeriodSeconds"]
        namespace = scaled["metadata"]["namespace"]
        host, port = facts["natsServerMonitoringEndpoint"].split(":")
        assert host == f"nats-headless.{namespace}.svc.cluster.local"
        ingress = overlay.one("NetworkPolicy", "keda-to-nats")["spec"]["ingress"]
        assert int(port) in {p["port"] for rule in ingress for p in rule["ports"]}


def test_monitoring_finds_the_metrics(overlay: Overlay) -> None:
    for monitor in overlay.all("PodMonitor"):
        chosen = [w for w in overlay.workloads() if selects(monitor["spec"]["selector"], w.labels)]
        assert {w.name for w in chosen} == {"access", "chat", "tts"}
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert all(endpoint["port"] in w.ports for w in chosen)


def test_the_clusters_configuration_is_one_that_the_server_takes(
    overlay: Overlay, tmp_path: Path
) -> None:
    """What the chart makes of our values, with the files that the overlay mounts beside it."""
    if overlay.name != "production":
        return
    config = overlay.one("ConfigMap", "nats-config")["data"]["nats.conf"]
    authority = Authority.make(tmp_path / "authority")
    own = authority.sign("nats")
    assert own.cert is not None
    assert own.key is not None
    for kind in ("nats", "websocket", "cluster"):
        config = config.replace(f"/etc/nats-certs/{kind}/tls.crt", own.cert)
        config = config.replace(f"/etc/nats-certs/{kind}/tls.key", own.key)
    config = config.replace("/etc/nats-ca-cert/ca.crt", str(authority.ca))
    (tmp_path / "nats-config").mkdir()
    (tmp_path / "nats-config" / "nats.conf").write_text(config)
    users = overlay.one("ConfigMap", "parley-nats-users")["data"]
    (tmp_path / "parley" / "secrets").mkdir(parents=True)
    for name, text in users.items():
        (tmp_path / "parley" / name).write_text(text)
    for file in (ROOT / "deploy/secrets/local").glob("*.conf"):
        (tmp_path / "parley" / "secrets" / file.name).write_text(file.read_text())
    told = subprocess.run(
        [binary(), "-t", "-c", str(tmp_path / "nats-config" / "nats.conf")],
        env={"SERVER_NAME": "nats-0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert told.returncode == 0, told.stderr


def test_what_nats_reads_anew_is_all_that_may_change(overlay: Overlay) -> None:
    """Permissions, passwords and certificates: reload.sh looks at every folder of theirs."""
    (server,) = [w for w in overlay.workloads() if w.name == "nats"]
    (reloader,) = [c for c in server.containers if c["name"] == "reloader"]
    _, script, _, *watched = reloader["command"]
    assert script.endswith("/reload.sh")
    assert server.spec["shareProcessNamespace"] is True
    own = {m["mountPath"] for c in server.containers for m in c["volumeMounts"]}
    mounted_there = {m["mountPath"] for m in reloader["volumeMounts"]}
    for path in own:
        if path.startswith("/etc/"):
            assert path in mounted_there
            assert any(path == folder or path.startswith(f"{folder}/") for folder in watched), path


def test_a_cluster_of_three_keeps_streams_on_three() -> None:
    folder = ROOT / "k8s" / "components" / "nats-cluster"
    values = yaml.safe_load((folder / "values.yaml").read_text())
    component = yaml.safe_load((folder / "kustomization.yaml").read_text())
    literals = [line for g in component["configMapGenerator"] for line in g.get("literals", [])]
    assert f"STREAM_REPLICAS={values['config']['cluster']['replicas']}" in literals
    assert values["config"]["jetstream"]["merge"]["sync_interval"] == "always"
    assert values["config"]["merge"]["$include"] == "../parley/users.conf"


@pytest.mark.parametrize("service", sorted(CONFIGS))
def test_the_recording_finds_settings(service: str) -> None:
    """Else the tests above would agree with anything."""
    assert {"NATS_URL", "NATS_PASSWORD_FILE", "LOG_LEVEL", "HTTP_PORT"} <= settings_of(service)


def test_every_pod_may_ask_the_dns_of_the_cluster_and_of_its_node(overlay: Overlay) -> None:
    (rule,) = overlay.one("NetworkPolicy", "dns")["spec"]["egress"]
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]
    assert any("namespaceSelector" in peer for peer in rule["to"])
    assert {(p["port"], p["protocol"]) for p in rule["ports"]} == {(53, "UDP"), (53, "TCP")}


def test_addresses_outside_are_public_ones_of_both_families(overlay: Overlay) -> None:
    for policy in overlay.all("NetworkPolicy"):
        blocks = [
            ipaddress.ip_network(peer["ipBlock"]["cidr"])
            for rule in policy["spec"].get("egress", [])
            for peer in rule["to"]
            if "ipBlock" in peer and peer["ipBlock"].get("except")
        ]
        if not blocks:
            continue
        assert {block.version for block in blocks} == {4, 6}, policy["metadata"]["name"]
        excepted = [
            ipaddress.ip_network(each)
            for rule in policy["spec"]["egress"]
            for peer in rule["to"]
            for each in peer["ipBlock"]["except"]
        ]
        for private in ("10.0.0.1", "169.254.169.254", "192.168.0.1", "fd00:ec2::254", "fe80::1"):
            assert any(ipaddress.ip_address(private) in each for each in excepted), private


def test_traces_may_leave_where_the_settings_send_them(overlay: Overlay) -> None:
    endpoint = config_map(overlay).get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if endpoint is None:
        assert overlay.name != "production"
        return
    url = urlsplit(endpoint)
    (rule,) = overlay.one("NetworkPolicy", "services-to-collector")["spec"]["egress"]
    (peer,) = rule["to"]
    assert url.port in {port["port"] for port in rule["ports"]}
    assert url.hostname is not None
    namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert url.hostname.split(".")[1] == namespace


def test_streams_are_provisioned_with_the_operators_login(overlay: Overlay) -> None:
    (job,) = [w for w in overlay.workloads() if w.name == "provision"]
    assert environment(job)["NATS_USER"] == "operator"
    assert set(environment(job)) <= settings_of("chat")
    (container,) = job.containers
    assert container["command"] == ["python3", "-m", "shared.provision", "--apply"]
    assert {"configMapRef": {"name": "parley-config"}}.keys() <= container["envFrom"][0].keys()


def test_what_keeps_conversations_outlives_what_serves_them(overlay: Overlay) -> None:
    classes = {c["metadata"]["name"]: c["value"] for c in overlay.all("PriorityClass")}
    named = [w.spec.get("priorityClassName") for w in overlay.services()]
    if overlay.name == "production":
        assert named == ["parley", "parley"]
        assert classes["parley-data"] > classes["parley"] > 0
    assert set(named) - {None} <= classes.keys()


def test_with_tls_nothing_is_said_in_the_clear(overlay: Overlay) -> None:
    settings = config_map(overlay)
    if overlay.name in {"local", "second"}:
        return
    assert settings["NATS_URL"].startswith("tls://")
    assert settings["MINIO_SECURE"] == "true"
    for url in ("TOGETHER_BASE_URL", "TTS_URL"):
        assert "//emulator:" in settings[url] or re.match(r"https|wss", settings[url])
    authority = {c["spec"]["issuerRef"]["name"] for c in overlay.all("Certificate")}
    assert authority == {i["metadata"]["name"] for i in overlay.all("Issuer")}
    named = {name for w in overlay.workloads() for _, name, _, _ in sources(w)}
    for certificate in overlay.all("Certificate"):
        secret = certificate["spec"]["secretName"]
        if secret == "parley-ca":
            assert secret not in named, "the key of the authority is nobody's but the issuer's"
        elif "server auth" in certificate["spec"]["usages"]:
            assert secret.removesuffix("-tls").removeprefix("parley-") in {"nats", "store"}


def test_a_certificate_names_the_host_that_is_asked_for(overlay: Overlay) -> None:
    names = {name for c in overlay.all("Certificate") for name in c["spec"].get("dnsNames", [])}
    if not names:
        assert overlay.name in {"local", "second"}
        return
    settings = config_map(overlay)
    assert urlsplit(settings["NATS_URL"]).hostname in names
    if any(w.name == "store" for w in overlay.workloads()):
        assert settings["MINIO_ENDPOINT"].partition(":")[0] in names
