"""A tenant: a user of its own with rights in one namespace, and what it lays out on a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spiderlab import paths, pki
from spiderlab.lab import LabNode
from tests.lab import manifests
from tests.lab.kube import Kube, Thing
from tests.lab.story import Pod, Story

RIGHTS: Final = (
    ("", ["pods", "events"]),
    ("apps", ["deployments", "statefulsets"]),
    ("k8s.cni.cncf.io", ["network-attachment-definitions"]),
    ("spiderpool.spidernet.io", ["spidermultusconfigs"]),
)
FOLDER: Final = "/tmp/tenant"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whoever may do something in one namespace."""

    kube: Kube
    namespace: str

    def network(self, name: str, config: Mapping[str, Any] | str) -> str:
        """Make a NetworkAttachmentDefinition and give `namespace/name`."""
        text = config if isinstance(config, str) else manifests.texts({"x": config})["x"]
        metadata = {"name": name, "namespace": self.namespace}
        self.kube.create(
            {
                "kind": "NetworkAttachmentDefinition",
                "metadata": metadata,
                "spec": {"config": text},
            }
        )
        return f"{self.namespace}/{name}"

    def pod(self, name: str, annotations: Mapping[str, Any]) -> Pod:
        """Make a pod on the node that is watched."""
        spec = manifests.pod_spec("node1")
        return Pod(
            self.kube,
            self.kube.create(manifests.pod(name, self.namespace, annotations, {}, spec)),
        )


def make_tenant(story: Story, folder: Path) -> Tenant:
    """Give a new user rights in a story's namespace."""
    user, metadata = f"tenant-{story.namespace}", {"name": "tenant", "namespace": story.namespace}
    rules = [{"apiGroups": [group], "resources": kinds, "verbs": ["*"]} for group, kinds in RIGHTS]
    story.kube.create({"kind": "Role", "metadata": metadata, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    binding: Thing = {"kind": "RoleBinding", "metadata": metadata}
    story.kube.create({**binding, "roleRef": reference, "subjects": [subject]})
    authority = _authority()
    text = pki.render_kubeconfig(
        story.lab.topology.api_server, authority, user, pki.issue(authority, user)
    )
    file = folder / "tenant.kubeconfig"
    file.write_text(text)
    return Tenant(Kube(file), story.namespace)


def _authority() -> pki.Issued:
    """Read the lab's own authority."""
    key = serialization.load_pem_private_key((paths.PKI / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = x509.load_pem_x509_certificate((paths.PKI / "ca.crt").read_bytes())
    return pki.Issued(key, certificate)


class Trap:
    """Programs in a folder of a node, by names of plugins; each tells when it was executed."""

    folder = FOLDER

    def __init__(self, node: LabNode) -> None:
        """Lay them out."""
        self._node = node
        script = f"#!/bin/sh\\necho $0 >>{FOLDER}/executed\\n"
        names = "evil macvlan spiderpool static"
        lay_out = (
            f"mkdir -p {FOLDER}; for name in {names}; do "
            f"printf '{script}' >{FOLDER}/$name; chmod 755 {FOLDER}/$name; done"
        )
        done = node.exec(["sh", "-c", lay_out])
        assert done.returncode == 0, done.stderr

    @property
    def sprung(self) -> str:
        """What was executed, empty when nothing was."""
        return self._node.exec(["cat", f"{FOLDER}/executed"]).stdout

    def remove(self) -> None:
        """Take them away."""
        self._node.exec(["rm", "-r", FOLDER])
