"""
Which CIDRs a control plane was set up with.

By kubeadm's configuration, and by the command line of kube-controller-manager.

What is there and cannot be read is named in `problems`; nothing is passed over in silence.
Sources: docs/reference/coordinator.md#which-cidrs; kubeadm.k8s.io/v1beta3 and v1beta4,
`Networking`; Kubernetes API, `Container` ($(NAME) in command and args);
k8s.io/component-base/cli/flag (a flag's "_" counts as "-"); POSIX shell, 2.2 and 2.3 (quotes,
comments).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from spiderpool.addressing.ranges import parse_network
from spiderpool.errors import InvalidRequest

CLUSTER_CIDR: Final = "--cluster-cidr"
SERVICE_RANGE: Final = "--service-cluster-ip-range"
MANAGER: Final = "kube-controller-manager"
KUBEADM_KIND: Final = "ClusterConfiguration"
_VARIABLE: Final = re.compile(r"\$\(([A-Za-z0-9_.-]+)\)")
_SHELL_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
# a whole command line in one word
_SHELL_TEXT: Final = re.compile(r"(?!--).*\s(--|\"?\$[\w{])", re.DOTALL)
_SHELL_WORD: Final = re.compile(r"\$[A-Za-z_{]")  # a word that begins with a variable
_QUOTED_OR_COMMENT: Final = re.compile(
    r"""("(?:\\.|[^"\\])*"|'[^']*'|\\.)|(?<![^\s;|&()])\#[^\n]*""", re.DOTALL
)
_SEPARATORS: Final = re.compile(r"[,\s]+")

Cidrs = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClusterCidrs:
    """
    What the cluster as a whole was set up with: an empty list was not found.

    `problems` are sentences about what was found and could not be read.
    """

    pods: Cidrs = ()
    services: Cidrs = ()
    problems: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Return whether nothing is missing."""
        return bool(self.pods and self.services)

    def or_else(self, other: ClusterCidrs) -> ClusterCidrs:
        """Fill in from another source what is missing here."""
        return ClusterCidrs(
            self.pods or other.pods,
            self.services or other.services,
            tuple(dict.fromkeys(self.problems + other.problems)),
        )


@dataclass(frozen=True, slots=True)
class Started:
    """
    How a container is started, as its pod says.

    `env` are the variables whose value the pod itself holds; those from elsewhere (a Secret, a
    field) are left out.
    """

    words: tuple[str, ...]
    env: Mapping[str, str]
    name: str = ""


def valid_cidrs(items: Iterable[str]) -> Cidrs:
    """Return the items that are CIDRs, each once, in their order."""
    return tuple(dict.fromkeys(item for item in items if _is_cidr(item)))


def split_cidrs(text: str) -> list[str]:
    """Split a list of CIDRs at commas and blanks; quotes around the list do not count."""
    return [item for item in _SEPARATORS.split(text.strip().strip("\"'")) if item]


def read_cidrs(where: str, text: str) -> tuple[Cidrs, tuple[str, ...]]:
    """
    Read a list of CIDRs.

    Returns:
        The CIDRs, and one sentence for each item that is none.
    """
    items = split_cidrs(text)
    problems = tuple(
        f'{where}: "{item}" is not a CIDR and is left out' for item in items if not _is_cidr(item)
    )
    return valid_cidrs(items), problems


def read_kubeadm(text: str) -> ClusterCidrs:
    """
    Read key `ClusterConfiguration` of the ConfigMap `kubeadm-config`.

    Args:
        text: YAML or JSON, of one document or several; the version of the document does not matter.
    """
    where = f"ConfigMap kubeadm-config, {KUBEADM_KIND}"
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none
        return ClusterCidrs(problems=(f"{where}: is not YAML: {_first_line(error)}",))
    if not all(isinstance(document, dict) for document in documents):
        return ClusterCidrs(problems=(f"{where}: a document is not an object",))
    mine = [one for one in documents if one.get("kind", KUBEADM_KIND) == KUBEADM_KIND]
    if documents and not mine:
        return ClusterCidrs(problems=(f"{where}: no document is of that kind",))
    networking: dict[str, Any] = {}
    for document in mine:
        found = document.get("networking") or {}
        if not isinstance(found, dict):
            return ClusterCidrs(problems=(f"{where}: networking is not an object",))
        networking |= _extra_cidrs(document) | {k: v for k, v in found.items() if v}
    pods, pod_problems = _read_value(f"{where}: podSubnet", networking.get("podSubnet"))
    services, service_problems = _read_value(
        f"{where}: serviceSubnet", networking.get("serviceSubnet")
    )
    return ClusterCidrs(pods, services, pod_problems + service_problems)


def _extra_cidrs(document: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what the flags of the control plane say where `networking` does not.

    `extraArgs` is an object in v1beta3, and a list of names and values in v1beta4.
    """
    flags: dict[str, Any] = {}
    for part in ("apiServer", "controllerManager"):
        block = document.get(part)
        args = block.get("extraArgs") if isinstance(block, dict) else None
        if isinstance(args, list):
            args = {str(arg.get("name")): arg.get("value") for arg in args if isinstance(arg, dict)}
        if isinstance(args, dict):
            flags |= {f"--{name}": value for name, value in args.items()}
    named = {"podSubnet": CLUSTER_CIDR, "serviceSubnet": SERVICE_RANGE}
    return {key: flags[flag] for key, flag in named.items() if flags.get(flag)}


def read_manager(containers: Iterable[Started]) -> ClusterCidrs:
    """
    Read the command line of kube-controller-manager.

    Args:
        containers: those of its pod. The one that says something counts: others may stand before
        it.
    """
    problems: tuple[str, ...] = ()
    for container in sorted(containers, key=lambda started: started.name != MANAGER):
        found = _read_container(container)
        if found.pods or found.services:
            return found
        problems += found.problems
    return ClusterCidrs(problems=problems)


def _read_container(container: Started) -> ClusterCidrs:
    try:
        words = list(_words(container))
    except ValueError as error:
        return ClusterCidrs(problems=(f"{MANAGER}: its command line is not readable: {error}",))
    pods, pod_problems = _read_flag(CLUSTER_CIDR, words)
    services, service_problems = _read_flag(SERVICE_RANGE, words)
    problems = pod_problems + service_problems
    return ClusterCidrs(
        pods, services, problems if pods or services or problems else _unknown_words(words)
    )


def _unknown_words(words: Iterable[str]) -> tuple[str, ...]:
    """Name the variables of a shell that stand for words which the pod does not say."""
    return tuple(
        f"{MANAGER}: its command line has {word}, and its pod does not say what that stands for"
        for word in words
        if _SHELL_WORD.match(word)
    )


def _words(container: Started) -> Iterator[str]:
    """
    Yield the words of a command line; a text for a shell is split as the shell does.

    Raises:
        ValueError: the shell's text ends within quotes.
    """
    for word in container.words:
        expanded = _expanded(word, container.env)
        if _SHELL_TEXT.match(expanded):
            for part in _in_shell(expanded):
                value = _expanded_by_shell(part, container.env)
                # The value of a variable that stands alone is several words (POSIX shell, 2.6.5).
                yield from value.split() if _SHELL_WORD.match(part) else [value]
        else:
            yield expanded


def _in_shell(text: str) -> list[str]:
    """Split a shell's text into words; comments go, and operators stand alone."""
    bare = _QUOTED_OR_COMMENT.sub(lambda match: match[1] or "", text.replace("\\\n", " "))
    lexer = shlex.shlex(bare, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    return list(lexer)


def _expanded_by_shell(word: str, env: Mapping[str, str]) -> str:
    return _SHELL_VARIABLE.sub(lambda match: env.get(match[1] or match[2], match[0]), word)


def _expanded(word: str, env: Mapping[str, str]) -> str:
    """Replace `$(NAME)` as kubelet does; a name that the pod does not hold stays as it is."""
    return _VARIABLE.sub(lambda match: env.get(match[1], match[0]), word)


def _read_flag(flag: str, words: list[str]) -> tuple[Cidrs, tuple[str, ...]]:
    """
    Read a flag in the forms `--flag=value` and `--flag value`.

    Of several the last one counts.
    """
    values = []
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") != flag:
            continue
        values.append(value if equals else "".join(words[index + 1 : index + 2]))
    if not values or not values[-1]:
        return (), ()
    if "$" in values[-1]:
        return (), (
            f"{MANAGER}: {flag} is {values[-1]}, and its pod does not say what that stands for",
        )
    return read_cidrs(f"{MANAGER}: {flag}", values[-1])


def _read_value(where: str, value: object) -> tuple[Cidrs, tuple[str, ...]]:
    """Read a value of kubeadm: a text with commas."""
    if value is None:
        return (), ()
    if not isinstance(value, str):
        return (), (f"{where} is not a text",)
    return read_cidrs(where, value)


def _first_line(error: Exception) -> str:
    """Return what is wrong and where, on one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"line {mark.line + 1}: {problem}" if mark is not None else problem


def _is_cidr(text: str) -> bool:
    """Return whether a text is a CIDR."""
    try:
        parse_network(text)
    except InvalidRequest:
        return False
    return True
