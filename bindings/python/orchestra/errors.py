"""One exception per code of orchestra.h; all are OrchestraError.

Catch the class for what to do (NotFound, Conflict, ...), read `status` for what the API said.
"""

from __future__ import annotations

import enum
import json
from typing import Any, Dict, List, Type


class Code(enum.IntEnum):
    """orc_code, without the prefix."""

    INVALID = 1
    NOT_FOUND = 2
    ALREADY_EXISTS = 3
    CONFLICT = 4
    BUSY = 5
    UNAUTHENTICATED = 6
    DENIED = 7
    UNAVAILABLE = 8
    UNKNOWN_OUTCOME = 9
    NOT_LEADER = 10
    DEADLINE_EXCEEDED = 11
    CANCELLED = 12
    OVERLOADED = 13
    RESOURCE_EXHAUSTED = 14
    NO_SPACE = 15
    TOO_LARGE = 16
    EXPIRED = 17
    COMPACTED = 18
    FUTURE = 19
    CORRUPT = 20
    IO = 21
    UNSUPPORTED = 22
    WOULD_DEADLOCK = 23
    INTERNAL = 24


class OrchestraError(Exception):
    """code: what kind; http_code: status of an API error, else 0; status: its Status object, else {}; retry_after: seconds
    before which the same call will most likely be refused again, 0 where nothing is known."""

    code: Code = Code.INTERNAL

    def __init__(self, message: str, http_code: int = 0, status_json: str = "", retry_after: float = 0) -> None:
        super().__init__(message)
        self.http_code = http_code
        self.retry_after = retry_after
        self.status: Dict[str, Any] = json.loads(status_json) if status_json else {}

    @property
    def causes(self) -> List[Dict[str, str]]:
        """status.details.causes: which fields were refused and why."""
        return (self.status.get("details") or {}).get("causes") or []

    @property
    def reason(self) -> str:
        """status.reason ("NotFound", ...), "" for errors that are not of the API."""
        return self.status.get("reason", "")


class Invalid(OrchestraError):
    """The request or an argument cannot be; `causes` name the fields."""

    code = Code.INVALID


class NotFound(OrchestraError):
    code = Code.NOT_FOUND


class AlreadyExists(OrchestraError):
    code = Code.ALREADY_EXISTS


class Conflict(OrchestraError):
    """Somebody else changed it first: read again and retry."""

    code = Code.CONFLICT


class Busy(OrchestraError):
    """A folder or an address is taken; the message names by whom."""

    code = Code.BUSY


class Unauthenticated(OrchestraError):
    code = Code.UNAUTHENTICATED


class Denied(OrchestraError):
    code = Code.DENIED


class Unavailable(OrchestraError):
    """Certainly not applied; retrying is safe."""

    code = Code.UNAVAILABLE


class UnknownOutcome(OrchestraError):
    """May have been applied, or may still be: read before retrying."""

    code = Code.UNKNOWN_OUTCOME


class NotLeader(OrchestraError):
    code = Code.NOT_LEADER


class DeadlineExceeded(OrchestraError):
    """No answer in time; the work may go on."""

    code = Code.DEADLINE_EXCEEDED


class Cancelled(OrchestraError):
    code = Code.CANCELLED


class Overloaded(OrchestraError):
    code = Code.OVERLOADED


class ResourceExhausted(OrchestraError):
    code = Code.RESOURCE_EXHAUSTED


class NoSpace(OrchestraError):
    code = Code.NO_SPACE


class TooLarge(OrchestraError):
    code = Code.TOO_LARGE


class Expired(OrchestraError):
    """The resource version is too old to continue from: list again, then watch."""

    code = Code.EXPIRED


class Compacted(OrchestraError):
    code = Code.COMPACTED


class Future(OrchestraError):
    """A revision that the store has not reached."""

    code = Code.FUTURE


class Corrupt(OrchestraError):
    """Data on disk are damaged; the message names file and offset."""

    code = Code.CORRUPT


class Io(OrchestraError):
    code = Code.IO


class Unsupported(OrchestraError):
    code = Code.UNSUPPORTED


class WouldDeadlock(OrchestraError):
    """A blocking call was made from a callback of the library."""

    code = Code.WOULD_DEADLOCK


class Internal(OrchestraError):
    code = Code.INTERNAL


_CLASSES: Dict[int, Type[OrchestraError]] = {int(one.code): one for one in OrchestraError.__subclasses__()}


def class_of(code: int) -> Type[OrchestraError]:
    """The exception class of an orc_code; of a code this package does not know: OrchestraError."""
    return _CLASSES.get(code, OrchestraError)
