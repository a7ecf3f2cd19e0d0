"""
Make values.yaml, values.schema.json and the documents' page from keys.yaml.

`python -m deploy.chart.values` writes them, `--check` only compares. The schema has two keywords
of ours, which validators ignore and the chart's templates read: `x-no-effect` and `x-refuse`.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent.parent
CHART: Final = HERE / "spiderpool"
KEYS: Final = HERE / "keys.yaml"
ORIGINAL: Final = HERE / "spiderpool-v1.2.1-values.yaml"

Schema = dict[str, Any]
Path_ = tuple[str, ...]

FREE: Final = frozenset({"nodeSelector", "configDaemonNodeSelector", "resources", "updateStrategy"})
"""Mappings of the original's file that may have other names than those of their defaults."""

_TEXT: Final[Schema] = {"type": "string"}
_TEXTS: Final[Schema] = {"type": "array", "items": _TEXT}
_SCALAR: Final[Schema] = {"type": ["string", "number", "boolean"]}
_ADDRESS: Final = "[0-9a-fA-F.:]+"
_NAME: Final = "[a-z0-9]([-a-z0-9.]*[a-z0-9])?"

TYPES: Final[Mapping[str, Schema]] = {
    "flag": {"type": "boolean"},
    "text": _TEXT,
    "texts": _TEXTS,
    "name": {"type": "string", "pattern": f"^{_NAME}$"},
    "optional-name": {"type": "string", "pattern": f"^({_NAME})?$"},
    "path": {"type": "string", "pattern": "^/"},
    "count": {"type": "integer", "minimum": 0},
    "positive": {"type": "integer", "minimum": 1},
    "percent": {"type": "integer", "minimum": 0, "maximum": 100},
    "count-or-percent": {"type": ["integer", "string"], "pattern": "^[0-9]+%?$", "minimum": 0},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "days": {"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1},
    "days-or-duration": {
        "type": ["integer", "string"],
        "pattern": "^([0-9]+|([0-9]+(h|m|s))+)$",
        "minimum": 1,
    },
    "duration": {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"},
    "cidr": {"type": "string", "pattern": f"^({_ADDRESS}/[0-9]{{1,3}})?$"},
    "address": {"type": "string", "pattern": f"^({_ADDRESS})?$"},
    "ranges": {
        "type": "array",
        "items": {"type": "string", "pattern": f"^{_ADDRESS}(-{_ADDRESS})?$"},
    },
    "strings": {"type": ["object", "null"], "additionalProperties": _SCALAR},
    "object": {"type": "object"},
    "objects": {"type": "array", "items": {"type": "object"}},
    "secrets": {
        "type": "array",
        "items": {
            "type": ["object", "string"],
            "required": ["name"],
            "properties": {"name": _TEXT},
            "additionalProperties": False,
        },
    },
}


@dataclass(frozen=True, slots=True)
class Value:
    """
    One value of the chart.

    Attributes:
        no_effect: what follows for a user who sets it; empty where it has an effect.
        refuse: why it cannot be on; empty where it can.
    """

    path: Path_
    schema: Schema
    default: object
    about: str
    no_effect: str = ""
    refuse: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Values below one name."""

    path: Path_
    about: str
    members: tuple[Group | Value, ...]

    def values(self) -> Iterator[Value]:
        """All values below, in their order."""
        for member in self.members:
            if isinstance(member, Group):
                yield from member.values()
            else:
                yield member


# --- reading -------------------------------------------------------------------------------------


class Reader:
    """Reads keys.yaml, with what it shares and what it takes from the original's file."""

    def __init__(self, keys: Mapping[str, Any], original: Mapping[str, Any]) -> None:
        self._keys = dict(keys)
        self._shared = self._keys.pop("_shared")
        self._original = original

    def read(self) -> Group:
        """Return all values."""
        return self._group((), self._keys, "")

    def _group(self, path: Path_, raw: Mapping[str, Any], no_effect: str) -> Group:
        no_effect = raw.get("_no-effect", no_effect)
        members = [self._member((*path, name), item, no_effect) for name, item in self._named(raw)]
        if raw.get("_original"):
            known = {member.path[-1] for member in members}
            rest = {k: v for k, v in _at(self._original, path).items() if k not in known}
            members += _unlisted(path, rest, no_effect)
        return Group(path, raw.get("_about", ""), tuple(members))

    def _named(self, raw: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Each name with what is below it; a name that follows a shared one takes its place."""
        found: dict[str, Any] = {}
        for name, item in raw.items():
            if name == "_use":
                for shared in item:
                    found |= self._shared[shared]
            elif not name.startswith("_"):
                found[name] = item
        yield from found.items()

    def _member(self, path: Path_, raw: Any, no_effect: str) -> Group | Value:
        if isinstance(raw, Mapping):
            return self._group(path, raw, no_effect)
        kind, default, about, *fate = raw
        told = fate[0] if fate else {}
        refuse = told.get("refuse", "")
        return Value(
            path,
            schema_of(kind),
            default,
            _one_line(about),
            no_effect="" if refuse else _one_line(told.get("no-effect", no_effect)),
            refuse=_one_line(refuse),
        )


def read_keys() -> Group:
    """Return all values of the chart."""
    return Reader(yaml.safe_load(KEYS.read_text()), yaml.safe_load(ORIGINAL.read_text())).read()


def _unlisted(path: Path_, raw: Mapping[str, Any], no_effect: str) -> list[Group | Value]:
    """Return values of the original's that have no effect here: any type is fine."""
    found: list[Group | Value] = []
    for name, default in raw.items():
        here = (*path, name)
        if isinstance(default, dict) and default and name not in FREE:
            found.append(Group(here, "", tuple(_unlisted(here, default, no_effect))))
        else:
            found.append(Value(here, {}, default, "", no_effect=no_effect))
    return found


def schema_of(kind: str | Mapping[str, Any]) -> Schema:
    """Return the JSON schema of a type of keys.yaml."""
    if isinstance(kind, str):
        return TYPES[kind]
    if "enum" in kind:
        return {"enum": kind["enum"]}
    if "text" in kind:
        return {"type": "string", "pattern": kind["text"]}
    properties = {
        k: {"type": "string", "minLength": 1, "description": v} for k, v in kind["items"].items()
    }
    item = {
        "type": "object",
        "required": [*properties],
        "additionalProperties": False,
        "properties": properties,
    }
    return {"type": "array", "items": item}


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _at(tree: Any, path: Path_) -> Any:
    for name in path:
        tree = tree[name]
    return tree


# --- writing -------------------------------------------------------------------------------------

HEAD: Final = """\
# Values of the Spiderpool chart. Names are those of Spiderpool v1.2, so that existing value files
# keep working; those that have no effect here are not repeated (docs/reference/chart-values.md has
# all).
# Made from deploy/chart/keys.yaml by `make chart-values`.
"""
WIDTH: Final = 100


def render_values(root: Group) -> str:
    """Write values.yaml."""
    return HEAD + "".join("\n" + _yaml(member, 0) for member in root.members if _is_shown(member))


def _is_shown(member: Group | Value) -> bool:
    values = member.values() if isinstance(member, Group) else iter((member,))
    return any(not (value.no_effect or value.refuse) for value in values)


def _yaml(member: Group | Value, depth: int) -> str:
    indent = "  " * depth
    lines = textwrap.wrap(member.about, WIDTH - len(indent) - 2, break_on_hyphens=False)
    comment = "".join(f"{indent}# {line}\n" for line in lines)
    name = member.path[-1]
    if isinstance(member, Group):
        inner = "".join(_yaml(item, depth + 1) for item in member.members if _is_shown(item))
        return f"{comment}{indent}{name}:\n{inner}"
    text = yaml.safe_dump(
        {name: member.default}, sort_keys=False, width=WIDTH, default_flow_style=False
    )
    return comment + textwrap.indent(text.replace("''", '""'), indent)


def render_schema(root: Group) -> str:
    """Write values.schema.json."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the Spiderpool chart",
        "$comment": (
            "Made from keys.yaml. Names that are not here are refused by the chart's templates, "
            "which name the nearest one; `additionalProperties: false` could not."
        ),
        **_object(root),
    }
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _object(group: Group) -> Schema:
    properties = {member.path[-1]: _property(member) for member in group.members}
    about = {"description": group.about} if group.about else {}
    return {"type": "object", **about, "properties": properties}


def _property(member: Group | Value) -> Schema:
    if isinstance(member, Group):
        return _object(member)
    texts = {
        "description": member.about,
        "x-no-effect": member.no_effect,
        "x-refuse": member.refuse,
    }
    told = {key: text for key, text in texts.items() if text}
    return {**member.schema, "default": member.default, **told}


PAGE_HEAD: Final = """\
# Values of the chart

Made from `deploy/chart/keys.yaml` by `make chart-values`. All {original} values of the chart of
Spiderpool v1.2.1 are accepted ({effective} have their effect, {without} have none here, {refused}
are refused when they are on), and {own} are this chart's own (marked +). A name that is not here is
refused, with the nearest one that is.

* **No effect**: accepted. NOTES.txt names the value and says what follows, when it is another than
  its default.
* **Refused**: the installation ends with the sentence when the value is on (true, or not empty).
* Values of annotations and labels may hold templates, such as `{{{{ .Release.Name }}}}`.
"""


def render_page(root: Group, original: Mapping[str, Any]) -> str:
    """Write the page of the documents."""
    values = {value.path: value for value in root.values()}
    theirs = [value_of(values, path) for path in original_paths(original)]
    known = frozenset(value.path for value in theirs)
    head = PAGE_HEAD.format(
        original=len(theirs),
        effective=sum(not (v.no_effect or v.refuse) for v in theirs),
        without=sum(bool(v.no_effect) for v in theirs),
        refused=sum(bool(v.refuse) for v in theirs),
        own=len(values) - len(known),
    )
    sections = [_section(member, known) for member in root.members]
    return head + "".join(f"\n{section}" for section in sections)


def _section(member: Group | Value, known: frozenset[Path_]) -> str:
    values = list(member.values()) if isinstance(member, Group) else [member]
    about = f"{member.about}\n\n" if isinstance(member, Group) and member.about else ""
    rows = "".join(_row(value, known) for value in values)
    return (
        f"## {member.path[0]}\n\n{about}| value | default | what it does |\n|---|---|---|\n{rows}"
    )


def _row(value: Value, known: frozenset[Path_]) -> str:
    mark = "" if value.path in known else " +"
    default = json.dumps(value.default, ensure_ascii=False)
    told = value.about
    if "enum" in value.schema:
        told += f" One of {', '.join(map(str, value.schema['enum']))}."
    if value.no_effect:
        told = f"{told} **No effect**: {value.no_effect}".strip()
    if value.refuse:
        told = f"{told} **Refused**: {value.refuse}"
    told = told.replace("|", "\\|")
    return f"| `{'.'.join(value.path)}`{mark} | `{default}` | {told} |\n"


def value_of(values: Mapping[Path_, Value], path: Path_) -> Value:
    """Return the value that a path of the original's file is, or is part of."""
    return next(values[path[:n]] for n in range(len(path), 0, -1) if path[:n] in values)


def original_paths(tree: Mapping[str, Any], path: Path_ = ()) -> list[Path_]:
    """Return the paths of all values of the original's file."""
    found = []
    for name, item in tree.items():
        here = (*path, name)
        found += original_paths(item, here) if isinstance(item, dict) and item else [here]
    return found


def outputs() -> dict[Path, str]:
    """Return what belongs into each file."""
    root = read_keys()
    return {
        CHART / "values.yaml": render_values(root),
        CHART / "values.schema.json": render_schema(root),
        ROOT / "docs/reference/chart-values.md": render_page(
            root, yaml.safe_load(ORIGINAL.read_text())
        ),
    }


def main() -> int:
    """Write the files, or compare them."""
    files = outputs()
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            say(f"{path.relative_to(ROOT)} is not what keys.yaml says: run `make chart-values`")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path])
        say(f"wrote {path.relative_to(ROOT)}")
    return 0


def say(text: str) -> None:
    """Report on standard output."""
    print(text)  # noqa: T201  the answer of this command


if __name__ == "__main__":
    sys.exit(main())
