"""Agent and controller start in the same way, and say the same of the same fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    SpiderpoolError,
    TooManyRequests,
    Unreachable,
)
from spiderpool.startup import read_config, wait_for_api


class Answers:
    """A read that fails with each of some errors, then succeeds."""

    def __init__(self, *errors: SpiderpoolError) -> None:
        self._errors = list(errors)
        self.asked = 0

    async def __call__(self) -> None:
        """Ask."""
        self.asked += 1
        if self._errors:
            raise self._errors.pop(0)


@pytest.mark.parametrize(
    "error",
    [Unreachable("refused"), NotFound("no such kind"), TooManyRequests("later", retry_after_s=0.1)],
)
async def test_an_api_server_that_starts_too_is_waited_for(error: SpiderpoolError) -> None:
    """No answer, kinds that are not installed yet and a server that is busy pass."""
    ask = Answers(error)

    await wait_for_api(ask, program="agent", kubeconfig=None, timeout_s=2)

    assert 2 == ask.asked


@pytest.mark.parametrize("error", [Unreachable("connection refused"), NotFound("no such kind")])
async def test_the_wait_ends_with_the_reason(error: SpiderpoolError) -> None:
    """The last error is told, with how long it lasted and for which."""
    with pytest.raises(
        type(error), match=f"does not serve this controller within 0.01 s: {error.message}"
    ):
        await wait_for_api(Answers(error), program="controller", kubeconfig=None, timeout_s=0.01)


@pytest.mark.parametrize(
    ("kubeconfig", "source"), [("/k", "kubeconfig /k"), (None, "service account")]
)
async def test_refused_credentials_are_not_waited_out(kubeconfig: str | None, source: str) -> None:
    """Where the credentials come from is told at once."""
    ask = Answers(Forbidden("Unauthorized"))

    with pytest.raises(Forbidden, match=rf"this agent's credentials \({source}\): Unauthorized"):
        await wait_for_api(ask, program="agent", kubeconfig=kubeconfig)

    assert 1 == ask.asked


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xfe", "cannot be read: it is not UTF-8 text"),
        (
            b"enableIPv4: 'yes'\n",
            ': configuration key enableIPv4 is "yes"; it must be true or false',
        ),
    ],
)
def test_a_configuration_file_that_cannot_be_used(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    """The error names the file and what is wrong with it."""
    path = tmp_path / "conf.yml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InvalidRequest) as raised:
        read_config(path)

    assert str(raised.value).startswith(f"configuration file {path}")
    assert words in str(raised.value)
