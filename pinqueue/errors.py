"""Everything PinQueue raises on purpose, sorted by what to do next.

PinQueueError
├── ConfigInvalid          a person corrects the settings
├── PortTaken              choose another port
├── SchemaWrong            run `pinqueue migrate`, or install the version that fits
├── DatabaseUnavailable    try again: the database cannot be reached or is being changed
├── NotFound               nothing there by that name
├── Conflict               what is asked contradicts what is stored
├── InputInvalid           what was given cannot be: the field and the remedy
│   └── BookingInvalid     a booking says something that cannot be
├── StateChanged           somebody else moved the row first: stop, touch nothing
├── TryLater               this is not the moment; `retry_at` is
│   └── InDoubt            nothing is tried before an earlier call can no longer take effect
├── SourceError            a sender's API did not tell what was asked
│   ├── SourceUnreachable  try again, with growing gaps
│   ├── SourceBusy         try again after `retry_after`: a rate limit
│   └── SourceRefused      a person corrects the source's API settings
└── LockError              the lock, or the cloud before it, did not do what was asked
    ├── LockUnreachable    try again, with growing gaps, until the deadline
    ├── LockBusy           try again soon: a rate limit, or another operation on the same lock
    ├── LockFaulted        unknown failure: a few retries, then a person
    ├── PinRejected        choose another PIN
    ├── NameTaken          our own earlier call got through: look at the lock again
    ├── LockFull           try again when another PIN has left the lock
    └── LockRefused        every retry would fail the same way: a person
        └── WindowPassed   ask for a later start, unless the window is over

The first line of a class's docstring is its message where none is given. No message ever holds a
PIN or a secret.
"""

from __future__ import annotations

from datetime import datetime


class PinQueueError(Exception):
    """Something went wrong in PinQueue."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])


class ConfigInvalid(PinQueueError):
    """The settings are incomplete or contradict each other."""


class PortTaken(PinQueueError):
    """Another program listens there."""


class SchemaWrong(PinQueueError):
    """The database schema is not the one this version of PinQueue works with."""


class DatabaseUnavailable(PinQueueError):
    """The database cannot be reached."""


class NotFound(PinQueueError):
    """There is nothing by that name."""


class Conflict(PinQueueError):
    """That contradicts what is stored already."""


class InputInvalid(PinQueueError):
    """What was given cannot be."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class BookingInvalid(InputInvalid):
    """A booking says something that cannot be."""


class StateChanged(PinQueueError):
    """The row is no longer in the state this change starts from."""


class TryLater(PinQueueError):
    """This is not the moment."""

    def __init__(self, message: str, *, retry_at: datetime) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class InDoubt(TryLater):
    """A call that was never answered may still take effect: until then nothing is tried."""


class SourceError(PinQueueError):
    """A sender's API did not tell what was asked."""


class SourceUnreachable(SourceError):
    """The sender's API cannot be reached, or did not answer as it documents."""


class SourceBusy(SourceError):
    """The sender's API asks for patience."""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        """`retry_after` is in seconds, None where the sender gave no figure."""
        super().__init__(message)
        self.retry_after = retry_after


class SourceRefused(SourceError):
    """The sender's API refuses our credentials."""


class LockError(PinQueueError):
    """The lock did not do what was asked.

    `code` is the vendor's code, for people and metrics. `in_doubt` says that the call may have
    taken effect although no answer came: whoever made it must look before making it again.
    """

    def __init__(self, message: str = "", *, code: str = "", in_doubt: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.in_doubt = in_doubt


class LockUnreachable(LockError):
    """The lock or its cloud cannot be reached."""

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "",
        in_doubt: bool = False,
        cloud_away: bool = False,
    ) -> None:
        """`cloud_away` says that it is the cloud, and so every lock of it."""
        super().__init__(message, code=code, in_doubt=in_doubt)
        self.cloud_away = cloud_away


class LockBusy(LockError):
    """The lock or its cloud asks for patience."""

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "",
        in_doubt: bool = False,
        retry_after: float | None = None,
    ) -> None:
        """`retry_after` is in seconds, None where the vendor gave no figure."""
        super().__init__(message, code=code, in_doubt=in_doubt)
        self.retry_after = retry_after


class LockFaulted(LockError):
    """The lock failed in a way we do not know."""


class PinRejected(LockError):
    """The lock does not take this PIN."""


class NameTaken(LockError):
    """The lock already holds a PIN by this name."""


class LockFull(LockError):
    """The lock holds as many PINs as it can."""


class LockRefused(LockError):
    """The lock refuses, and will refuse again."""


class WindowPassed(LockRefused):
    """The lock takes no window that begins, or ends, in the past."""
