"""
Descriptions of fields: the string that stands behind a field in the source of its class.

Python itself forgets these strings, so they are read from the source. Nothing needs them at run
time: they go into the definitions and into the reference.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import cast


def read_descriptions(kind: type) -> dict[str, str]:
    """Return the description of each described field of a class, inherited ones too, by name."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("spiderpool."):
            found |= _read_class(base)
    return found


def _read_class(kind: type) -> dict[str, str]:
    """Read the descriptions in the body of one class."""
    definition = cast("ast.ClassDef", ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0])
    found = {}
    for field, behind in pairwise(definition.body):
        match field, behind:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found
