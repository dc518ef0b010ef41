"""What an overlay holds, by kind and name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Object = dict[str, Any]

WORKLOADS = ("Deployment", "StatefulSet", "Job")
NAME = "app.kubernetes.io/name"


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """As the API server would decide."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for wanted in selector.get("matchExpressions", []):
        assert wanted["operator"] == "In", wanted
        if labels.get(wanted["key"]) not in wanted["values"]:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    kind: str
    spec: Object  # of the pod
    labels: dict[str, str]
    whole: Object

    @property
    def containers(self) -> list[Object]:
        return [*self.spec["containers"], *self.spec.get("initContainers", [])]

    @property
    def ports(self) -> dict[str, int]:
        return {
            port["name"]: port["containerPort"]
            for container in self.containers
            for port in container.get("ports", [])
        }


@dataclass(frozen=True, slots=True)
class Overlay:
    name: str
    objects: list[Object]

    def all(self, kind: str) -> list[Object]:
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        """By its name, or its name before a generator's hash."""
        found = [
            o
            for o in self.all(kind)
            if o["metadata"]["name"] == name or o["metadata"]["name"].rpartition("-")[0] == name
        ]
        assert len(found) == 1, f"{kind} {name}: {len(found)} in {self.name}"
        return found[0]

    def workloads(self) -> Iterator[Workload]:
        for kind in WORKLOADS:
            for found in self.all(kind):
                template = found["spec"]["template"]
                yield Workload(
                    found["metadata"]["name"],
                    kind,
                    template["spec"],
                    template["metadata"]["labels"],
                    found,
                )

    def services(self) -> list[Workload]:
        """chat and tts."""
        return [w for w in self.workloads() if w.name in {"chat", "tts"}]

    def data(self, kind: str, name: str) -> set[str]:
        """The keys of a ConfigMap or a Secret, whoever makes the Secret."""
        for found in self.all(kind):
            if found["metadata"]["name"] == name:
                return set(found.get("data", {})) | set(found.get("stringData", {}))
        if kind == "Secret":
            if any(c["spec"]["secretName"] == name for c in self.all("Certificate")):
                return {"ca.crt", "tls.crt", "tls.key"}
            for found in self.all("ExternalSecret"):
                if found["spec"]["target"]["name"] == name:
                    template = found["spec"]["target"].get("template", {})
                    return set(template.get("data", {})) or {
                        entry["secretKey"] for entry in found["spec"]["data"]
                    }
        raise AssertionError(f"{self.name} has no {kind} {name}")
