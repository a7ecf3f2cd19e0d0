"""
Who we are and which we trust.

The `Authorization` header and the CA of every request, kept fresh.
"""

from __future__ import annotations

import ssl
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


class AuthorityFile:
    """
    The certificate authorities of a file that somebody renews.

    A cluster that rotates its CA replaces the file; a process that keeps the former one is cut off
    at the API server's next certificate.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Read the authorities.

        Args:
            path: the file, PEM.
            clock: monotonic seconds.

        Raises:
            InvalidRequest: the file is not there or holds no certificate.
        """
        self._path = path
        self._clock = clock
        self._read_at = clock()
        try:
            self._text = path.read_text()
            self._context = _trust(self._text)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise InvalidRequest(f"CA certificate {path}: {error}") from error

    def context(self) -> ssl.SSLContext:
        """Return the context for new connections; the file is looked at every minute."""
        if self._clock() - self._read_at > TOKEN_LIFE_S:
            self._read_at = self._clock()
            self._read()
        return self._context

    def _read(self) -> None:
        """Read the file again; while it is being replaced the last authorities stay."""
        try:
            text = self._path.read_text()
            if text != self._text:
                self._context = _trust(text)
                self._text = text
        except (OSError, ValueError):
            return


def _trust(text: str) -> ssl.SSLContext:
    """Return a context that trusts these authorities alone."""
    if not text.strip():
        # `ssl` would take an empty text for "not said" and trust every authority of the system.
        raise ValueError("the file is empty")
    return ssl.create_default_context(cadata=text)
