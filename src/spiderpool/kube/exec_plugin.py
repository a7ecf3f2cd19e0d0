"""
Logins by a program, as clouds and OpenID Connect providers have them.

Source: Kubernetes, Authentication, client-go credential plugins; ExecCredential of
client.authentication.k8s.io v1 and v1beta1.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from spiderpool.errors import InvalidRequest

GROUP: Final = "client.authentication.k8s.io"
VERSIONS: Final = (f"{GROUP}/v1", f"{GROUP}/v1beta1")
LOGIN_S: Final = 300.0  # a person may have to answer in a browser

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """
    What a kubeconfig says of a login program.

    `folder`: where a relative path of the command begins. `cluster`: the cluster's entry as the
    program may want to know it.
    """

    api_version: str
    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    install_hint: str = ""
    folder: Path = Path()
    cluster: Mapping[str, object] = field(default_factory=dict)


class _Status(msgspec.Struct, rename="camel", frozen=True):
    """What a program gives: a token, or a certificate with its key (PEM), or both."""

    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, rename="camel", frozen=True):
    """The object that a program prints."""

    api_version: str
    kind: str
    status: _Status | None = None


class ExecPlugin:
    """
    Credentials of a login program: asked for when they are needed, kept until they end.

    Also the TLS context: it carries the program's certificate, if it gives one.
    """

    def __init__(
        self,
        spec: ExecSpec,
        trust: Callable[[], ssl.SSLContext],
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        """
        Keep the arguments; the program runs at the first request.

        Args:
            spec: the program.
            trust: makes a context that trusts the cluster's authorities.
            clock: the time now.

        Raises:
            InvalidRequest: the version of the exchange is not supported.
        """
        if spec.api_version not in VERSIONS:
            raise InvalidRequest(
                f'exec plugin {spec.command}: apiVersion "{spec.api_version}" is not supported; '
                f"supported are {' and '.join(VERSIONS)}"
            )
        self._spec = spec
        self._trust = trust
        self._clock = clock
        self._status: _Status | None = None
        self._tls: ssl.SSLContext | None = None
        self._login = asyncio.Lock()

    async def authorization(self) -> str:
        """
        Return the header's value, empty when a certificate says who we are.

        Raises:
            InvalidRequest: the program is not there, failed, or did not give a credential.
        """
        async with self._login:
            status = self._status
            if status is None or self._has_ended(status):
                status = self._status = await _run(self._spec)
                self._tls = None
        return f"Bearer {status.token}" if status.token else ""

    def refused(self) -> None:
        """Ask the program again at the next request."""
        self._status = None

    def tls(self) -> ssl.SSLContext:
        """Return the context for connections; called after `authorization`."""
        if self._tls is None:
            self._tls = self._trust()
            status = self._status
            if status is not None and status.client_certificate_data:
                load_pair(self._tls, status.client_certificate_data, status.client_key_data)
        return self._tls

    def _has_ended(self, status: _Status) -> bool:
        return status.expiration_timestamp is not None and (
            self._clock() >= status.expiration_timestamp
        )


def load_pair(tls: ssl.SSLContext, certificate: str, key: str) -> None:
    """
    Have a TLS context present a certificate.

    Args:
        tls: the context of the client.
        certificate: the chain, PEM.
        key: the private key, PEM.
    Raises:
        InvalidRequest: certificate and key do not belong together.
    """
    # OpenSSL reads keys from files only; nobody else may read this one.
    with TemporaryDirectory() as folder:
        files = Path(folder, "certificate"), Path(folder, "key")
        for file, text in zip(files, (certificate, key), strict=True):
            file.touch(mode=0o600)
            file.write_text(text)
        try:
            tls.load_cert_chain(*files)
        except OSError as error:  # ssl.SSLError is one
            raise InvalidRequest(f"client certificate: {error}") from error


async def _run(spec: ExecSpec) -> _Status:
    """Run the program once and read what it prints."""
    try:
        process = await asyncio.create_subprocess_exec(
            _path_of(spec),
            *spec.args,
            env={**os.environ, **spec.env, "KUBERNETES_EXEC_INFO": _exec_info(spec)},
            stdin=None
            if sys.stdin is not None and sys.stdin.isatty()
            else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        hint = f"; {' '.join(spec.install_hint.split())}" if spec.install_hint else ""
        raise InvalidRequest(f"exec plugin {spec.command}: {error.strerror}{hint}") from error
    try:
        async with asyncio.timeout(LOGIN_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise InvalidRequest(
            f"exec plugin {spec.command}: no credential within {LOGIN_S:g} s"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise InvalidRequest(f"exec plugin {spec.command}: exit code {process.returncode}")
    return _read(spec, output)


def _path_of(spec: ExecSpec) -> str:
    """Return what to execute: a path counts from the kubeconfig's folder, a name from PATH."""
    return str(spec.folder / spec.command) if os.sep in spec.command else spec.command


def _exec_info(spec: ExecSpec) -> str:
    """Return what the program is told (`KUBERNETES_EXEC_INFO`)."""
    interactive = sys.stdin is not None and sys.stdin.isatty()
    info = {
        "apiVersion": spec.api_version,
        "kind": "ExecCredential",
        "spec": {"interactive": interactive, "cluster": dict(spec.cluster)},
    }
    return msgspec.json.encode(info).decode()


def _read(spec: ExecSpec, output: bytes) -> _Status:
    """Read the credential that a program printed."""
    where = f"exec plugin {spec.command}"
    try:
        found = msgspec.json.decode(output, type=_ExecCredential)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"{where}: its output is no ExecCredential: {error}") from None
    if (found.api_version, found.kind) != (spec.api_version, "ExecCredential"):
        raise InvalidRequest(
            f"{where}: it gave {found.kind} of {found.api_version}, asked for was ExecCredential "
            f"of {spec.api_version}"
        )
    status = found.status or _Status()
    if bool(status.client_certificate_data) != bool(status.client_key_data):
        raise InvalidRequest(f"{where}: it gave a certificate without its key, or the other way")
    if not status.token and not status.client_certificate_data:
        raise InvalidRequest(f"{where}: it gave neither a token nor a certificate")
    return status
