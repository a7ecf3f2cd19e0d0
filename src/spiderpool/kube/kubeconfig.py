"""Kubeconfig files: joined as kubectl does, a context chosen, and how it says who we are."""

from __future__ import annotations

import os
import ssl
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spiderpool.errors import InvalidRequest
from spiderpool.kube.credentials import BearerToken, TokenFile
from spiderpool.kube.exec_plugin import ExecPlugin, ExecSpec, load_pair
from spiderpool.kube.transport import Access, Credentials

if TYPE_CHECKING:
    from lightkube import KubeConfig
    from lightkube.config.models import Cluster, User, UserExec


@dataclass(frozen=True, slots=True)
class Login:
    """An API server by kubeconfig files: how to reach it, and the context's namespace."""

    access: Access
    namespace: str


def from_kubeconfig(path: Path) -> Access:
    """Read the current context of a kubeconfig file."""
    return read_login((path,)).access


def read_login(paths: Sequence[Path], context: str | None = None) -> Login:
    """
    Read a context of one or several kubeconfig files, joined as kubectl does.

    Of several entries of a name the first file's counts, and so does the first current context.

    Args:
        paths: the files; where there are several, one that does not exist is passed over.
        context: the context's name; None = the current one.

    Raises:
        InvalidRequest: a file cannot be used; the message names it and the reason.
    """
    try:
        return _read_login(paths, context)
    except InvalidRequest as error:
        raise InvalidRequest(f"kubeconfig {_names(paths)}: {error.message}") from error
    # the library checks little: a wrong file ends in any of ten built-in exceptions
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".removeprefix("ConfigError: ")
        raise InvalidRequest(f"kubeconfig {_names(paths)}: {' '.join(reason.split())}") from error


def _names(paths: Sequence[Path]) -> str:
    return os.pathsep.join(map(str, paths))


def _read_login(paths: Sequence[Path], context: str | None) -> Login:
    from lightkube import KubeConfig  # noqa: PLC0415 - in a pod nobody needs it, and it costs 6 MB

    there = paths if len(paths) == 1 else [path for path in paths if path.exists()]
    if not there:
        raise InvalidRequest("no such file")
    configs = [KubeConfig.from_file(path) for path in there]
    name = context or next(filter(None, (config.current_context for config in configs)), None)
    if name is None:
        raise InvalidRequest("No current context; name one with --context")
    entry = _first(configs, "contexts", name)
    if entry is None:
        known = ", ".join(dict.fromkeys(one for config in configs for one in config.contexts))
        raise InvalidRequest(f"Context '{name}' not found; known are {known or 'none'}")
    chosen, _ = entry
    cluster, of_cluster = _need(configs, "clusters", chosen.cluster)
    user, of_user = (None, of_cluster)
    if chosen.user:
        user, of_user = _need(configs, "users", chosen.user)
    access = _access(cluster, of_cluster.fname, user, of_user.fname)
    return Login(access, chosen.namespace or "default")


def _first(configs: Iterable[KubeConfig], kind: str, name: str) -> tuple[Any, KubeConfig] | None:
    """Return the first entry of a name, and the file that has it."""
    return next(
        ((getattr(one, kind)[name], one) for one in configs if name in getattr(one, kind)), None
    )


def _need(configs: Sequence[KubeConfig], kind: str, name: str) -> tuple[Any, KubeConfig]:
    """Return an entry that another one names."""
    found = _first(configs, kind, name)
    if found is None:
        raise InvalidRequest(f"KeyError: '{name}' is not among the {kind}")
    return found


def _access(
    cluster: Cluster, of_cluster: Path | None, user: User | None, of_user: Path | None
) -> Access:
    """Join a cluster and a user; relative paths count from the file that has them."""

    def trust() -> ssl.SSLContext:
        return _trust(cluster, of_cluster)

    plugin = None
    if user is not None and user.exec is not None:
        plugin = ExecPlugin(_exec_spec(cluster, user.exec, of_user), trust)
    if not cluster.server.startswith("https:"):
        return Access(cluster.server, None, plugin or _credentials(user, of_user))
    if plugin is not None:
        return Access(cluster.server, plugin.tls, plugin)
    tls = trust()
    _show_certificate(tls, user, of_user)
    return Access(cluster.server, lambda: tls, _credentials(user, of_user))


def _exec_spec(cluster: Cluster, said: UserExec, of_user: Path | None) -> ExecSpec:
    info = {
        "server": cluster.server,
        "certificate-authority-data": cluster.certificate_auth_data,
        "insecure-skip-tls-verify": cluster.insecure or None,
    }
    return ExecSpec(
        api_version=said.apiVersion,
        command=said.command,
        args=tuple(said.args or ()),
        env={one.name: one.value for one in said.env or ()},
        install_hint=said.installHint or "",
        folder=of_user.parent if of_user else Path(),
        cluster={key: value for key, value in info.items() if value is not None},
    )


def _beside(config: Path | None, file: str) -> str:
    """Return the path of a file that a kubeconfig names."""
    return str(config.parent / file) if config else file


def _trust(cluster: Cluster, of_cluster: Path | None) -> ssl.SSLContext:
    """Make a context that trusts the cluster's authorities."""
    data, file = cluster.certificate_auth_data, cluster.certificate_auth
    tls = ssl.create_default_context(
        cadata=b64decode(data, validate=True).decode() if data else None,
        cafile=_beside(of_cluster, file) if file and not data else None,
    )
    if cluster.insecure:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls


def _show_certificate(tls: ssl.SSLContext, user: User | None, of_user: Path | None) -> None:
    """Have a context show the user's certificate, if there is one."""
    if user is None:
        return
    if user.client_cert_data and user.client_key_data:
        load_pair(
            tls,
            b64decode(user.client_cert_data, validate=True).decode(),
            b64decode(user.client_key_data, validate=True).decode(),
        )
    elif user.client_cert and user.client_key:
        tls.load_cert_chain(_beside(of_user, user.client_cert), _beside(of_user, user.client_key))


def _credentials(user: User | None, of_user: Path | None) -> Credentials | None:
    if user is None or user.client_cert or user.client_cert_data:
        return None
    if user.token_file:
        return TokenFile(Path(_beside(of_user, user.token_file)))
    if user.token:
        return BearerToken(user.token)
    raise InvalidRequest(
        "the user has neither certificate, token nor exec plugin; other ways to log in are not "
        "supported"
    )
