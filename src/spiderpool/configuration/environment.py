"""
Reading environment variables.

Each wrong value is refused with its name, what it has and what it must be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from spiderpool.errors import InvalidRequest

# The texts that Go's strconv.ParseBool takes: charts and habits rely on them.
TRUE_TEXTS: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE_TEXTS: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
# The original's levels and their names in Python's logging.
LOG_LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "error": "error",
    "fatal": "critical",
    "panic": "critical",
}
LARGEST_PORT: Final = 65535

Environment = Mapping[str, str]


def read_required(environ: Environment, name: str) -> str:
    """Read a variable that has no default."""
    value = environ.get(name, "")
    if not value:
        raise InvalidRequest(
            f"environment variable {name} is required and is "
            f"{'empty' if name in environ else 'not set'}"
        )
    return value


def read_flag(environ: Environment, name: str, *, default: bool) -> bool:
    """Read true or false."""
    text = environ.get(name, "")
    if text in TRUE_TEXTS:
        return True
    if text in FALSE_TEXTS:
        return False
    if text:
        raise InvalidRequest(f"environment variable {name} has {text!r}; it must be true or false")
    return default


def read_number(environ: Environment, name: str, default: int, *, least: int) -> int:
    """Read a whole number of at least `least`."""
    text = environ.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise InvalidRequest(
            f"environment variable {name} has {text!r}; it must be a whole number"
        ) from None
    if value < least:
        raise InvalidRequest(
            f"environment variable {name} has {value}; it must be at least {least}"
        )
    return value


def read_port(environ: Environment, name: str, default: int) -> int:
    """Read a TCP port; 0 lets the kernel choose one."""
    port = read_number(environ, name, default, least=0)
    if port > LARGEST_PORT:
        raise InvalidRequest(
            f"environment variable {name} has {port}; a port is at most {LARGEST_PORT}"
        )
    return port


def read_log_level(environ: Environment, name: str) -> str:
    """Read a log level, in any case, and give Python's name for it."""
    text = environ.get(name) or "info"
    level = LOG_LEVELS.get(text.lower())
    if level is None:
        raise InvalidRequest(
            f"environment variable {name} has {text!r}; it must be one of {', '.join(LOG_LEVELS)}"
        )
    return level
