"""Credentials: the `Authorization` header of every request, kept fresh."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from spiderpool.errors import InvalidRequest

# kubelet renews a service account's token long before it ends; client-go reads it as often
TOKEN_LIFE_S = 60.0


class BearerToken:
    """A token that never changes."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    async def authorization(self) -> str:
        """Return the header's value."""
        return self._header

    def refused(self) -> None:
        """There is no other token."""


class TokenFile:
    """A token in a file that somebody renews: read again every minute, and after a refusal."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Read the token.

        Args:
            path: the file.
            clock: monotonic seconds.
        """
        self._path = path
        self._clock = clock
        try:
            self._token = BearerToken(path.read_text().strip())
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"token file {path}: {error}") from error
        self._read_at = clock()

    async def authorization(self) -> str:
        """Return the header's value."""
        if self._clock() - self._read_at > TOKEN_LIFE_S:
            self.refused()
        return await self._token.authorization()

    def refused(self) -> None:
        """Read the file again; while it is being replaced the last token stays."""
        try:
            text = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError):
            return
        self._read_at = self._clock()
        if text:
            self._token = BearerToken(text)
