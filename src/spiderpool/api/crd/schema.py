"""
The custom resource definitions, rendered from the types.

`python -m spiderpool.api.crd.schema DIRECTORY` writes the YAML files.

What the types cannot say (columns, short names, rules over several fields) is in the tables below.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from msgspec import inspect

from spiderpool.api.crd.coordinator import SpiderCoordinator
from spiderpool.api.crd.descriptions import read_descriptions
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.group import WITHOUT_DEFAULTS
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.multusconfig import SpiderMultusConfig
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.api.kubernetes.meta import KubeObject, LabelSelector, ObjectMeta

Schema = dict[str, Any]

HEADER: Final = (
    "# Generated from src/spiderpool/api by `make crds`: change the types there, not this file.\n"
)
CATEGORY: Final = "spiderpool"
WIDE: Final = 10  # kubectl shows columns of a priority above 0 with `-o wide` only
APP_NAMESPACE: Final = r".spec.podAffinity.matchLabels['ipam\.spidernet\.io/app\-namespace']"

# The name of a SpiderIP is its address: creating it is the lock, so no name may stand for another
# address. For IPv6 every group of the name is compared with the group of `spec.ip` that it stands
# for; `0000` in front makes short and empty groups (the ends of `::1`, `fd00::`) comparable.
# Written with string functions alone: Kubernetes 1.29 has none for addresses.
V6_GROUP: Final = (
    "(i < ip.split('::')[0].split(':').size()"
    " ? '0000' + ip.split('::')[0].split(':')[i]"
    " : ip.contains('::') && i >= 8 - ip.split('::')[1].split(':').size()"
    " ? '0000' + ip.split('::')[1].split(':')[i - 8 + ip.split('::')[1].split(':').size()]"
    " : '0000')"
).replace("ip.", "self.spec.ip.")
NAME_IS_ADDRESS: Final = {
    "rule": "self.spec.family == 4 ? self.metadata.name == self.spec.ip"
    " : self.metadata.name.matches('^[0-9a-f]{4}(-[0-9a-f]{4}){7}$') && [0, 1, 2, 3, 4, 5, 6, 7]"
    f".all(i, {V6_GROUP}.endsWith(self.metadata.name.substring(i * 5, i * 5 + 4)))",
    "message": (
        "metadata.name must be spec.ip; for IPv6 its eight groups of four digits joined by '-'"
    ),
}

# Text that is no address would stop all readers of the record. Patterns again, for the same reason.
V4_OCTET: Final = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
V4: Final = rf"^({V4_OCTET}[.]){{3}}{V4_OCTET}$"
# eight groups, or fewer around one `::` that stands for those of zeros (RFC 5952: lower case)
V6_DIGITS: Final = "[0-9a-f]{1,4}"
V6: Final = "^({}|{}|::({})?)$".format(
    f"{V6_DIGITS}(:{V6_DIGITS}){{7}}",
    "|".join(
        f"{V6_DIGITS}(:{V6_DIGITS}){{0,{before - 1}}}::"
        + (f"({V6_DIGITS}(:{V6_DIGITS}){{0,{6 - before}}})?" if before < 7 else "")  # noqa: PLR2004
        for before in range(1, 8)
    ),
    f"{V6_DIGITS}(:{V6_DIGITS}){{0,6}}",
)
ADDRESSES: Final = tuple(
    {
        "rule": f"{absent}self.spec.{field}.matches(self.spec.family == 4 ? '{V4}' : '{V6}')",
        "message": f"spec.{field} must be an address of spec.family",
    }
    for field, absent in (("ip", ""), ("gateway", "!has(self.spec.gateway) || "))
)
PREFIX_FITS: Final = {
    "rule": "self.spec.family == 6 || self.spec.prefixLength <= 32",
    "message": "spec.prefixLength must be at most 32 for IPv4",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Definition:
    """What a kind needs besides its type."""

    kind: type[KubeObject]
    short: str
    columns: tuple[Column, ...]
    status_subresource: bool = False
    rules: tuple[dict[str, str], ...] = ()


DEFINITIONS: Final = (
    Definition(
        SpiderIPPool,
        "sp",
        (
            Column("VERSION", ".spec.ipVersion"),
            Column("SUBNET", ".spec.subnet"),
            Column("ALLOCATED-IP-COUNT", ".status.allocatedIPCount", "integer"),
            Column("TOTAL-IP-COUNT", ".status.totalIPCount", "integer"),
            Column("DEFAULT", ".spec.default", "boolean"),
            Column("DISABLE", ".spec.disable", "boolean", WIDE),
            Column("NodeName", ".spec.nodeName", priority=WIDE),
            Column("MultusName", ".spec.multusName", priority=WIDE),
            Column("APP-NAMESPACE", APP_NAMESPACE, priority=WIDE),
        ),
        status_subresource=True,
    ),
    Definition(
        SpiderSubnet,
        "ss",
        (
            Column("VERSION", ".spec.ipVersion"),
            Column("SUBNET", ".spec.subnet"),
            Column("ALLOCATED-IP-COUNT", ".status.allocatedIPCount", "integer"),
            Column("TOTAL-IP-COUNT", ".status.totalIPCount", "integer"),
        ),
        status_subresource=True,
    ),
    Definition(SpiderReservedIP, "sr", (Column("VERSION", ".spec.ipVersion"),)),
    Definition(
        SpiderEndpoint,
        "se",
        (
            Column("INTERFACE", ".status.current.ips[0].interface"),
            Column("IPV4POOL", ".status.current.ips[0].ipv4Pool"),
            Column("IPV4", ".status.current.ips[0].ipv4"),
            Column("IPV6POOL", ".status.current.ips[0].ipv6Pool"),
            Column("IPV6", ".status.current.ips[0].ipv6"),
            Column("NODE", ".status.current.node"),
        ),
    ),
    Definition(
        SpiderIP,
        "sip",
        (
            Column("ADDRESS", ".spec.ip"),
            Column("POOL", ".spec.pool"),
            Column("NAMESPACE", ".spec.holder.namespace"),
            Column("POD", ".spec.holder.name"),
            Column("NIC", ".spec.holder.nic"),
            Column("NODE", ".spec.holder.node"),
            Column("STATE", ".spec.state"),
            Column("AGE", ".metadata.creationTimestamp", "date"),
            Column("CONTAINER", ".spec.holder.containerID", priority=WIDE),
        ),
        rules=(NAME_IS_ADDRESS, *ADDRESSES, PREFIX_FITS),
    ),
    Definition(SpiderCoordinator, "scc", (), status_subresource=True),
    Definition(SpiderMultusConfig, "smc", ()),
)


def render_crds() -> dict[str, str]:
    """Return the YAML of every definition by file name."""
    return {
        f"{definition.kind.resource.group}_{definition.kind.resource.plural}.yaml": HEADER
        + _yaml(render_crd(definition))
        for definition in DEFINITIONS
    }


def render_crd(definition: Definition) -> Schema:
    """Return one CustomResourceDefinition."""
    resource = definition.kind.resource
    version: Schema = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in definition.columns],
        "schema": {"openAPIV3Schema": _root(definition)},
    }
    if not definition.columns:
        del version["additionalPrinterColumns"]
    if definition.status_subresource:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{resource.group}"},
        "spec": {
            "group": resource.group,
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [definition.short],
                "categories": [CATEGORY],
            },
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [version],
        },
    }


def _column(column: Column) -> Schema:
    """Write a column as Kubernetes does."""
    result: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return result | {"priority": column.priority} if column.priority else result


def _root(definition: Definition) -> Schema:
    """Return the schema of a whole object; Kubernetes itself knows the metadata."""
    schema = _struct(definition.kind)
    if definition.rules:
        schema["x-kubernetes-validations"] = [dict(rule) for rule in definition.rules]
    return schema


def _struct(kind: type[msgspec.Struct]) -> Schema:
    """
    Return the schema of a struct.

    Its docstring describes it, the strings behind its fields describe these. Fields without a
    default are required.
    """
    if issubclass(kind, ObjectMeta):
        return {"type": "object"}
    info = inspect.type_info(kind)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{kind} is no struct")
    descriptions = read_descriptions(kind)
    schema: Schema = {
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "properties": {
            field.encode_name: _described(_type(field.type), descriptions.get(field.name, ""))
            for field in info.fields
        },
    }
    required = [field.encode_name for field in info.fields if field.required]
    if required:
        schema["required"] = required
    if issubclass(kind, LabelSelector):
        schema["x-kubernetes-map-type"] = "atomic"
    return schema


def _described(schema: Schema, description: str) -> Schema:
    """Put the description of a field, if it has one, before the schema of its type."""
    if not description:
        return schema
    return {"description": description} | schema | {"description": description}


def _type(info: inspect.Type) -> Schema:
    """Return the schema of a type; what may be None is simply not required."""
    match info:
        case inspect.Metadata():
            extra = dict(info.extra_json_schema or {})
            bare = extra.pop(WITHOUT_DEFAULTS, False)
            schema = _type(info.type) | extra
            return _without_defaults(schema) if bare else schema
        case inspect.UnionType():
            (only,) = (item for item in info.types if not isinstance(item, inspect.NoneType))
            return _type(only)
        case inspect.StructType():
            return _struct(info.cls)
        case inspect.VarTupleType():
            return {"type": "array", "items": _type(info.item_type)}
        case inspect.DictType():
            return {"type": "object", "additionalProperties": _type(info.value_type)}
        case _:
            return _scalar(info)


def _without_defaults(schema: Schema) -> Schema:
    """Return a schema whose properties, at any depth, have no defaults."""
    kept = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in kept:
        kept["properties"] = {
            name: _without_defaults(value) for name, value in kept["properties"].items()
        }
    if "items" in kept:
        kept["items"] = _without_defaults(kept["items"])
    return kept


def _scalar(info: inspect.Type) -> Schema:
    """Return the schema of a single value."""
    match info:
        case inspect.EnumType():
            return {"type": "string", "enum": [item.value for item in info.cls]}
        case inspect.LiteralType():
            return {"type": "integer", "format": "int64", "enum": list(info.values)}
        case inspect.IntType():
            return {"type": "integer", "format": "int64"} | _limits(
                minimum=info.ge, maximum=info.le
            )
        case inspect.StrType():
            return {"type": "string"} | _limits(maxLength=info.max_length)
        case inspect.BoolType():
            return {"type": "boolean"}
        case _:
            raise TypeError(f"no schema is known for {info}")


def _limits(**limits: object) -> Schema:
    """Keep the limits that are set."""
    return {key: value for key, value in limits.items() if value is not None}


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: what occurs twice is written twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 the library's signature
        """Never make an alias."""
        return True


def _yaml(document: Schema) -> str:
    """Write YAML in the order of the document."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def main(arguments: Iterable[str]) -> None:
    """Write the files into a directory."""
    (directory,) = arguments
    for name, text in render_crds().items():
        (Path(directory) / name).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
