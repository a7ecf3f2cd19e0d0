"""
Every error of the project, each saying whose move it is and what a CNI caller is told.

* SpiderpoolError          999   something unexpected; the message is all there is
  + InvalidRequest         7     the caller must change something (annotation, configuration,
  object)
    + Undecodable          6     the text is not what its format says (JSON, YAML)
    + BadEnvironment       4     a CNI environment variable is missing or malformed
    + IncompatibleVersion  1     a CNI version that this product does not speak
  + Unsupported            2     a field that this product knows and does not support
  + NoPool                 7     no pool that this pod may use
  + Exhausted              110   usable pools are full; the runtime may retry
    + AddressHeld          110   the exact address that is asked for is somebody else's; the holder
    is named
  + TryAgain               11    not now; the same call later may succeed
    + PoolPending          11    the automatic pool of the pod's application is not there yet
    + Conflict             11    lost a race against another writer
      + AlreadyExists      11    a create met an object of that name
      + Gone               11    a watch or list position is too old; list again
    + Unreachable          11    a peer did not answer, or said "later"
      + TooManyRequests    11    the API server asks to wait (HTTP 429)
      + UnknownOutcome     11    a write was sent and its answer never came
  + NotFound               999   an object that was asked for does not exist
  + Forbidden              999   the API server refuses these credentials
  + Rejected               999   the API server refuses the object (422, or an admission webhook's
  words)
  + NotAvailable           50    STATUS: this node cannot serve ADD now
  + WireConflict           120   an address is in use by somebody outside the cluster's records
  + DelegateFailed         any   another CNI plugin failed; its own code and words
  + CheckFailed            121   CHECK: what ADD made is not there any more

CNI codes: 1 to 99 are the specification's (7 = invalid network configuration, 11 = try again
later), 100 and above ours.
Source: CNI specification 1.1.0, section 5 "Error".
"""

from __future__ import annotations

from typing import Final

# Messages quote what a tenant wrote, and go into logs, Events and CNI results again and again.
LONGEST_MESSAGE: Final = 4096


class SpiderpoolError(Exception):
    """An error with a sentence for its user and a code for a CNI caller."""

    cni_code: int = 999
    retryable: bool = False

    def __init__(self, message: str, *, details: str = "") -> None:
        """
        Keep the sentence.

        Args:
            message: subject, numbers, what to do; no "failed to … failed to …" chain. Becomes one
            line, also where it quotes a
                text of several lines: it goes into Events, CNI errors and logs.
            details: longer text for the CNI `details` field.
        """
        message = " ".join(message.splitlines())
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[:LONGEST_MESSAGE]}…"
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidRequest(SpiderpoolError):
    """The caller must change something before it can succeed."""

    cni_code = 7


class Undecodable(InvalidRequest):
    """A text is not what its format says."""

    cni_code = 6


class BadEnvironment(InvalidRequest):
    """A CNI environment variable is missing or malformed."""

    cni_code = 4


class IncompatibleVersion(InvalidRequest):
    """A CNI version that this product does not speak."""

    cni_code = 1


class Unsupported(SpiderpoolError):
    """A field that is known and not supported."""

    cni_code = 2


class NoPool(SpiderpoolError):
    """No pool that this pod may use; the message names each pool and why it was refused."""

    cni_code = 7


class Exhausted(SpiderpoolError):
    """Pools that this pod may use exist, and all their addresses are held."""

    cni_code = 110
    retryable = True


class AddressHeld(Exhausted):
    """The exact address that is asked for is somebody else's; the message names the holder."""


class TryAgain(SpiderpoolError):
    """Not now; the same call later may succeed."""

    cni_code = 11
    retryable = True


class PoolPending(TryAgain):
    """The automatic pool of the pod's application is not there yet; the controller makes it."""


class Conflict(TryAgain):
    """Another writer was first; read again and decide again."""


class AlreadyExists(Conflict):
    """A create met an object of that name."""


class Gone(Conflict):
    """A resource version is too old for the API server; list again."""


class Unreachable(TryAgain):
    """A peer did not answer, or answered that it cannot serve now."""


class TooManyRequests(Unreachable):
    """The API server asks to wait."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        """
        Keep the wait that the server asked for.

        Args:
            message: the sentence.
            retry_after_s: the `Retry-After` header, seconds.
        """
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnknownOutcome(Unreachable):
    """A write was sent and its answer never came: it may or may not have been committed."""


class NotFound(SpiderpoolError):
    """An object that was asked for does not exist."""


class Forbidden(SpiderpoolError):
    """The API server refuses these credentials."""


class Rejected(SpiderpoolError):
    """The API server, or an admission webhook behind it, refuses the object."""


class NotAvailable(SpiderpoolError):
    """This node cannot serve ADD now (CNI STATUS)."""

    cni_code = 50


class WireConflict(SpiderpoolError):
    """An address is used on the wire by somebody else."""

    cni_code = 120
    retryable = True


class DelegateFailed(SpiderpoolError):
    """Another CNI plugin failed; its code and words are passed on."""

    def __init__(self, message: str, *, cni_code: int = 999, details: str = "") -> None:
        """
        Keep the delegate's own code.

        Args:
            message: which plugin of which network, and its words.
            cni_code: the code that the plugin gave, 999 when it gave none.
            details: the plugin's own details.
        """
        super().__init__(message, details=details)
        self.cni_code = cni_code


class CheckFailed(SpiderpoolError):
    """What ADD made is not there any more (CNI CHECK)."""

    cni_code = 121
