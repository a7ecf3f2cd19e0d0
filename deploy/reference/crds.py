"""The page of custom resources, from their rendered definitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from deploy.reference.tables import page, table
from spiderpool.api.crd.schema import render_crds

TEXT = """\
All fields of the custom resources, in the words of `kubectl explain`. What the fields do together
is in [objects.md](objects.md) and the pages that it names.

`[]` stands for an item of a list. A field marked `*` is required."""


def render() -> str:
    """Return the page."""
    definitions = [yaml.safe_load(text) for text in render_crds().values()]
    definitions.sort(key=lambda definition: str(definition["spec"]["names"]["kind"]))
    return page("Custom resources", "src/spiderpool/api/crd", TEXT, *map(_section, definitions))


def _section(definition: dict[str, Any]) -> str:
    """Describe one kind."""
    spec = definition["spec"]
    names, (version,) = spec["names"], spec["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    about = (
        f"{schema['description']} {spec['scope']} scope, short name `{names['shortNames'][0]}`, "
        f"`{spec['group']}/{version['name']}`."
    )
    rows = [row for row in _rows(schema, "") if row[0].lstrip("`").startswith(("spec", "status"))]
    return (
        f"## {names['kind']}\n\n{about}\n\n{table(('field', 'type', 'default', 'meaning'), rows)}"
    )


def _rows(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, str, str]]:
    """Describe each field below a schema."""
    for name, field in schema.get("properties", {}).items():
        star = "*" if name in schema.get("required", ()) else ""
        default = f"`{yaml.safe_dump(field['default']).split()[0]}`" if "default" in field else ""
        meaning = field.get("description", "")
        yield f"`{path}{name}`{star}", _type(field), default, meaning
        yield from _rows(field, f"{path}{name}.")
        yield from _rows(field.get("items", {}), f"{path}{name}[].")


def _type(field: dict[str, Any]) -> str:
    """Name the type of a field, with what limits it."""
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        return f"list of {_type(field['items'])}s"
    if "additionalProperties" in field:
        return f"map to {_type(field['additionalProperties'])}"
    limits = {"minimum": "at least", "maximum": "at most", "maxLength": "characters: at most"}
    found = [f"{words} {field[key]}" for key, words in limits.items() if key in field]
    return ", ".join((str(field["type"]), *found))
