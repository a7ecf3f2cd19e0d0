"""
Calling other CNI plugins: every plugin of one network, for one verb.

Plugins run where the caller lives, in its mount and network namespace, so that they see the node's
files and not ours.
Source: CNI specification 1.1.0, section 4; docs/reference/meta-plugin.md#what-a-plugin-gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import structlog

from spiderpool.agent.multus.slots import Slots
from spiderpool.cni.caseless_keys import lookup
from spiderpool.cni.netconf import NetworkConfig, plugin_document, plugin_input
from spiderpool.cni.request import Call
from spiderpool.cni.valid_attachments import Attachment, render_attachments
from spiderpool.cni.versions import FIRST_WITH_CHECK, at_least
from spiderpool.errors import DelegateFailed, IncompatibleVersion, SpiderpoolError, TryAgain
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.programs import Outcome, run_program
from spiderpool.networks.allowed_plugins import can_run
from spiderpool.networks.delegates import CALLED_BY, META_PLUGIN, Delegate, delegate_env

# A plugin may wait for an address longer than for anything else; the ADD as a whole has its own
# limit.
PLUGIN_TIME_S: Final = 90.0

log = structlog.get_logger(__name__)


class PluginAbsent(DelegateFailed):
    """A plugin of that name cannot be executed on this node."""

    def __init__(self, message: str, plugin: str) -> None:
        """
        Keep which one.

        Args:
            message: the sentence.
            plugin: the plugin's type.
        """
        super().__init__(message)
        self.plugin = plugin


@dataclass(frozen=True, slots=True)
class Plugins:
    """The plugins of a node, as one call of our executable reaches them."""

    call: Call
    bin_dir: str
    host: Namespaces
    slots: Slots = field(default_factory=Slots)

    async def add(self, delegate: Delegate) -> dict[str, Any]:
        """
        Run ADD through a network's plugins; each gets the result of the one before.

        Returns:
            The last result, as JSON, with a `cniVersion`.

        Raises:
            DelegateFailed: the first plugin that fails, with its own code and words.
        """
        result: dict[str, Any] | None = None
        for index in range(len(delegate.config.plugins)):
            outcome = await self._run(delegate, index, "ADD", result)
            result = _read_result(outcome.output, _who(delegate, index), delegate.config.version)
        return result or {}

    async def delete(self, delegate: Delegate, result: Mapping[str, Any] | None) -> None:
        """
        Run DEL through a network's plugins, the last first.

        The first that fails ends it, unless it is not on the node; but where there is no result,
        because ADD never got that far, all are tried: what made ADD fail (a plugin that is not
        installed) must not keep the others from cleaning up.
        """
        given = result if at_least(delegate.config.version, FIRST_WITH_CHECK) else None
        first: DelegateFailed | None = None
        for index in reversed(range(len(delegate.config.plugins))):
            try:
                await self._run(delegate, index, "DEL", given)
            except PluginAbsent as error:
                # It will not come by waiting, so the others are called.
                first = first or error
            except DelegateFailed as error:
                if result is not None:
                    raise
                first = first or error
        if first is not None:
            raise first

    async def check(self, delegate: Delegate, result: Mapping[str, Any]) -> None:
        """Run CHECK through a network's plugins, unless the network says `disableCheck`."""
        if delegate.config.switched_off("disableCheck"):
            return
        if not delegate.config.checkable:
            raise IncompatibleVersion(
                f"network {delegate.name}: config version {delegate.config.version!r} does not "
                "know CHECK; raise cniVersion"
            )
        for index in range(len(delegate.config.plugins)):
            await self._run(delegate, index, "CHECK", result)

    async def status(self, config: NetworkConfig) -> None:
        """Run STATUS through a network's plugins; a network too old for it is taken to be well."""
        if config.collectable:
            for index in range(len(config.plugins)):
                await self._run_bare(config, index, "STATUS", {})

    async def collect(self, config: NetworkConfig, alive: Sequence[Attachment]) -> list[str]:
        """
        Run GC through a network's plugins, unless it says `disableGC` or is too old.

        Returns what went wrong.
        """
        if not config.collectable or config.switched_off("disableGC"):
            return []
        wrong = []
        for index in range(len(config.plugins)):
            try:
                await self._run_bare(config, index, "GC", render_attachments(alive))
            except SpiderpoolError as error:
                wrong.append(error.message)
        return wrong

    async def _run(
        self, delegate: Delegate, index: int, command: str, result: Mapping[str, Any] | None
    ) -> Outcome:
        env = delegate_env(
            self.call.env, delegate, command, self.bin_dir, self.call.args, self.call.netns
        )
        stdin = plugin_input(delegate.config, index, delegate.capability_args, result)
        return await self._execute(_type(delegate.config, index), _who(delegate, index), env, stdin)

    async def _run_bare(
        self, config: NetworkConfig, index: int, command: str, extra: Mapping[str, Any]
    ) -> None:
        """Run a verb that concerns no container."""
        env = {key: value for key, value in self.call.env.items() if not key.startswith("CNI_")}
        env |= {
            "CNI_COMMAND": command,
            "CNI_PATH": ":".join(self._folders()),
            CALLED_BY: META_PLUGIN,
        }
        document = plugin_document(config, index, {})
        who = f"network {config.name}: plugin {_type(config, index)}"
        await self._execute(
            _type(config, index), who, env, msgspec.json.encode({**document, **extra})
        )

    async def _execute(self, kind: str, who: str, env: Mapping[str, str], stdin: bytes) -> Outcome:
        if not can_run(kind):
            raise PluginAbsent(f"{who}: no plugin of this name is ever executed", kind)
        try:
            async with self.slots.of(env["CNI_COMMAND"]):
                outcome = await run_program(
                    kind, self._folders(), env, stdin, self.host, PLUGIN_TIME_S
                )
        except TryAgain:
            raise
        except SpiderpoolError as error:
            # Not there, or nothing that a kernel executes.
            raise PluginAbsent(f"{who}: {error.message}", kind) from error
        if outcome.code != 0:
            raise _failure(outcome, who)
        if outcome.errors:
            log.debug(
                "CNI plugin wrote to standard error",
                plugin=kind,
                text=outcome.errors.decode(errors="replace").strip(),
            )
        return outcome

    def _folders(self) -> list[str]:
        return [
            folder for folder in dict.fromkeys((self.bin_dir, *self.call.path.split(":"))) if folder
        ]


def _type(config: NetworkConfig, index: int) -> str:
    return str(lookup(config.plugins[index], "type"))


def _who(delegate: Delegate, index: int) -> str:
    return (
        f"network {delegate.name}, interface {delegate.ifname}: plugin "
        f"{_type(delegate.config, index)}"
    )


def _read_result(output: bytes, who: str, version: str) -> dict[str, Any]:
    try:
        result = msgspec.json.decode(output, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise DelegateFailed(f"{who}: its result is no JSON object: {_excerpt(output)}") from error
    if not result.get("cniVersion"):
        result["cniVersion"] = version
    return result


def _failure(outcome: Outcome, who: str) -> DelegateFailed:
    """Read a plugin's error; one that wrote none speaks by its standard error."""
    try:
        said = msgspec.json.decode(outcome.output, type=dict[str, Any])
    except msgspec.DecodeError:
        said = {}
    code, message, details = said.get("code"), said.get("msg"), said.get("details")
    words = (
        message
        if isinstance(message, str) and message
        else _excerpt(outcome.output) or _excerpt(outcome.errors)
    )
    return DelegateFailed(
        f"{who}: {words or _how_it_ended(outcome.code)}",
        cni_code=code if type(code) is int and code > 0 else DelegateFailed.cni_code,
        details=details if isinstance(details, str) else "",
    )


def _how_it_ended(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"exit code {code} without a word"


def _excerpt(text: bytes) -> str:
    limit = 300
    return " ".join(text.decode(errors="replace").split())[:limit]
