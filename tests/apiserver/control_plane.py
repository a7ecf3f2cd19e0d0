"""etcd and one API server on loopback, with the project's CRDs; nothing else of Kubernetes runs."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

from spiderlab.binaries import program
from spiderlab.errors import LabError
from spiderlab.pki import issue, make_authority, pem_of, render_kubeconfig

CRDS = Path(__file__).parents[2] / "deploy" / "crds"
READY_S = 60.0


class ControlPlane:
    """Processes that end with the test run, by process id, also when it is killed."""

    def __init__(self, folder: Path) -> None:
        """
        Prepare; `start` starts.

        Args:
            folder: for data, keys and logs; removed by who gave it.
        """
        self._folder = folder
        self._etcd_port, self._peer_port, self._port = (_free_port() for _ in range(3))
        self.server = f"https://127.0.0.1:{self._port}"
        self.kubeconfig = folder / "kubeconfig"
        self.authority = folder / "ca.crt"
        self._authority = make_authority("contract")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._make_keys()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> None:
        """Start everything and create the CRDs."""
        self._start("etcd", self._etcd())
        self.launch_api_server()
        self.wait_ready()
        for path in sorted(CRDS.glob("*.yaml")):
            self._create_crd(yaml.safe_load(path.read_text()))

    def close(self) -> None:
        """End everything."""
        for name in reversed(list(self._processes)):
            self._kill(name)

    def launch_api_server(self) -> None:
        """
        Start the API server.

        From the main thread only, since the process ends with the thread that started it.
        """
        self._start("kube-apiserver", self._api_server())

    def wait_ready(self) -> None:
        """Wait until the API server serves."""
        deadline = time.monotonic() + READY_S
        while self._call("GET", "/readyz")[0] != 200:
            if self._processes["kube-apiserver"].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"the API server does not serve:\n{self._last_words('kube-apiserver')}"
                )
            time.sleep(0.1)

    def kill_api_server(self) -> None:
        """End the API server at once."""
        self._kill("kube-apiserver")

    def _make_keys(self) -> None:
        folder = self._folder
        serving = issue(self._authority, "kube-apiserver", serves=("127.0.0.1", "localhost"))
        admin = issue(self._authority, "admin", "system:masters")
        files = {
            "ca.crt": self._authority.pem,
            "server.crt": serving.pem,
            "server.key": serving.key_pem,
            "account.key": pem_of(rsa.generate_private_key(65537, 2048)),
        }
        for name, content in files.items():
            (folder / name).write_bytes(content)
        self.kubeconfig.write_text(render_kubeconfig(self.server, self._authority, "admin", admin))
        pem = folder / "admin.pem"
        pem.write_bytes(admin.pem + admin.key_pem)
        self._tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        self._tls.load_cert_chain(pem)

    def _etcd(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        return [
            _etcd_program(),
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _api_server(self) -> list[str]:
        folder = self._folder
        return [
            str(_kubernetes_program("kube-apiserver")),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--client-ca-file={folder / 'ca.crt'}",
            f"--tls-cert-file={folder / 'server.crt'}",
            f"--tls-private-key-file={folder / 'server.key'}",
            "--service-account-issuer=https://contract.test",
            f"--service-account-key-file={folder / 'account.key'}",
            f"--service-account-signing-key-file={folder / 'account.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",  # it would refuse a loopback address
            "--allow-privileged=true",  # as every cluster's: the agent's containers are
            "--authorization-mode=RBAC",
            # nobody makes the accounts that pods would need
            "--disable-admission-plugins=ServiceAccount",
            "--profiling=false",
        ]

    def _start(self, name: str, command: list[str]) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            # setpriv: the process ends with this one, however that ends.
            self._processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def _last_words(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")[-1500:]

    def _create_crd(self, crd: dict[str, Any]) -> None:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        code, answer = self._call("POST", path, crd)
        if code != 201:
            raise RuntimeError(f"CRD {crd['metadata']['name']}: {answer}")
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            _, answer = self._call("GET", f"{path}/{crd['metadata']['name']}")
            if _is_established(answer) and self._watches(crd):
                return
            time.sleep(0.05)
        raise RuntimeError(
            f"CRD {crd['metadata']['name']} is not established after {READY_S:.0f} s"
        )

    def _watches(self, crd: dict[str, Any]) -> bool:
        """
        Return whether watches of a new kind begin.

        The API server refuses them while its cache fills (`(re)initializing`).
        """
        spec = crd["spec"]
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}?watch=true&resourceVersion=0"
        try:
            with urllib.request.urlopen(self.server + path, context=self._tls, timeout=10):  # noqa: S310 - https, always
                return True
        except OSError:
            return False

    def _call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        request = urllib.request.Request(  # noqa: S310 - https, always
            self.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, context=self._tls, timeout=10) as answer:  # noqa: S310
                text, code = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)
        with contextlib.suppress(ValueError):
            return code, json.loads(text)
        return code, text.decode()


def _is_established(crd: dict[str, Any]) -> bool:
    conditions = crd.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def _kubernetes_program(name: str) -> Path:
    try:
        return program(name)
    except LabError as error:
        raise RuntimeError(f"{error}; run `make lab-binaries`") from error


def _etcd_program() -> str:
    found = shutil.which("etcd")
    if found is None:
        raise RuntimeError("etcd is not installed; run `make lab-binaries`")
    return found


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
