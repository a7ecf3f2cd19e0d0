"""A few requests to the API server, as the administrator."""

import json
import ssl
import time
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection
from typing import Any

from spiderlab import paths
from spiderlab.errors import LabError
from spiderlab.topology import API_PORT, Node, Topology


class Api:
    """
    The lab's API server.

    Each call is a connection of its own, since it is asked a dozen times a day.
    """

    def __init__(self, topology: Topology) -> None:
        self._host = str(topology.control_plane.ip)

    def call(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        """One request; status and decoded answer."""
        context = ssl.create_default_context(cafile=str(paths.PKI / "ca.crt"))
        context.load_cert_chain(paths.PKI / "admin.crt", paths.PKI / "admin.key")
        connection = HTTPSConnection(self._host, API_PORT, timeout=10, context=context)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": content_type})
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
        return answer.status, json.loads(raw) if is_json else raw.decode()

    def ready(self) -> bool:
        """Return whether it serves."""
        try:
            return self.call("GET", "/readyz")[0] == 200  # noqa: PLR2004
        except (OSError, HTTPException):
            return False

    def wait_ready(self, *, wait_s: float = 90) -> None:
        """Wait until it serves."""
        deadline = time.monotonic() + wait_s
        while not self.ready():
            if time.monotonic() > deadline:
                raise LabError(
                    f"the API server is not ready after {wait_s:.0f} s; see: spiderlab logs "
                    "kube-apiserver"
                )
            time.sleep(0.2)

    def apply(self, path: str, thing: dict[str, Any]) -> None:
        """Create or replace fields of an object by server-side apply."""
        status, answer = self.call(
            "PATCH",
            f"{path}?fieldManager=spiderlab&force=true",
            thing,
            "application/apply-patch+yaml",
        )
        if status >= 300:  # noqa: PLR2004
            raise LabError(f"{path}: {status}: {answer}")

    def give_pod_blocks(self, node: Node, *, ipv6: bool) -> None:
        """Write a node's pod blocks into its Node, as the controller manager otherwise does."""
        blocks = [str(node.pods), *([str(node.pods6)] if ipv6 else [])]
        spec = {"spec": {"podCIDR": blocks[0], "podCIDRs": blocks}}
        status, answer = self.call(
            "PATCH", f"/api/v1/nodes/{node.name}", spec, "application/merge-patch+json"
        )
        if status >= 300:  # noqa: PLR2004
            raise LabError(f"pod blocks of {node.name}: {status}: {answer}")

    def ready_nodes(self) -> dict[str, bool]:
        """Every Node with whether it is Ready."""
        status, answer = self.call("GET", "/api/v1/nodes")
        if status >= 300:  # noqa: PLR2004
            raise LabError(f"nodes: {status}: {answer}")
        return {item["metadata"]["name"]: _is_ready(item) for item in answer["items"]}

    def wait_nodes(self, names: list[str], *, wait_s: float = 90) -> None:
        """Wait until these nodes are Ready."""
        deadline = time.monotonic() + wait_s
        while True:
            ready = self.ready_nodes()
            late = [name for name in names if not ready.get(name)]
            if not late:
                return
            if time.monotonic() > deadline:
                raise LabError(
                    f"not Ready after {wait_s:.0f} s: {', '.join(late)}; see: spiderlab logs "
                    f"kubelet-{late[0]}"
                )
            time.sleep(0.25)

    def wait_service_account(self, *, wait_s: float = 90) -> None:
        """
        Wait until namespace `default` has its ServiceAccount.

        Before, the API server refuses every pod there.
        """
        deadline = time.monotonic() + wait_s
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        while self.call("GET", account)[0] != HTTPStatus.OK:
            if time.monotonic() > deadline:
                raise LabError(
                    f"no ServiceAccount after {wait_s:.0f} s; see: spiderlab logs "
                    "kube-controller-manager"
                )
            time.sleep(0.1)


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions
    )
