"""
How agent and controller start.

Their configuration file, their log, and the first answer of the API server.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from spiderpool.configuration.config import Config, parse_config
from spiderpool.errors import Forbidden, InvalidRequest, NotFound, TryAgain
from spiderpool.kube.backoff import Backoff

# The original asks 15 times, 2 s each. Less than the startup probe's
# minute: then the reason is the last line of the log.
FIRST_ANSWER_S: Final = 30.0

log = structlog.get_logger(__name__)


def read_config(path: Path) -> Config:
    """Return the configuration; raises `InvalidRequest`, which names the file."""
    try:
        return parse_config(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(
            f"configuration file {path} cannot be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"configuration file {path} cannot be read: it is not UTF-8 text"
        ) from error
    except InvalidRequest as error:
        raise InvalidRequest(f"configuration file {path}: {error.message}") from error


def configure_log(level: str) -> None:
    """Write one JSON object a line to standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


async def wait_for_api(
    ask: Callable[[], Awaitable[object]],
    *,
    program: str,
    kubeconfig: str | None,
    timeout_s: float = FIRST_ANSWER_S,
) -> None:
    """
    Wait until the API server answers: it may be starting at the same time as this program.

    Args:
        ask: a read that shows whether the API server serves what the program needs.
        program: agent or controller, for error texts.
        kubeconfig: where the credentials come from, None for the pod's service account.
        timeout_s: how long to wait.
    Raises:
        Forbidden: the credentials are refused; this is not waited out.
        TryAgain, NotFound: what the last attempt raised, when the time is over.
    """
    backoff, deadline = Backoff(first_s=0.2, last_s=2.0), time.monotonic() + timeout_s
    while True:
        try:
            await ask()
        except Forbidden as error:
            source = f"kubeconfig {kubeconfig}" if kubeconfig else "service account"
            raise Forbidden(
                f"the API server refuses this {program}'s credentials ({source}): {error.message}"
            ) from error
        except (TryAgain, NotFound) as error:
            pause_s = backoff.next_s(error)
            if time.monotonic() + pause_s > deadline:
                text = f"the API server does not serve this {program} within {timeout_s:g} s"
                raise type(error)(f"{text}: {error.message}") from error
            log.info("waiting for the API server", reason=error.message)
            await asyncio.sleep(pause_s)
        else:
            return
