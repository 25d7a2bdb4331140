"""The error tree: what can go wrong, whether a retry can help, and what to do next.

::

    HeadraceError
    ├── RequestError            the caller's words are wrong; the same words fail again
    │   ├── InvalidRequest      invalid_request
    │   ├── InvalidSource       invalid_source
    │   ├── InvalidRecipe       invalid_recipe
    │   ├── NotFound            not_found
    │   ├── NotAllowed          not_allowed
    │   ├── Conflict            conflict
    │   └── Limited             limited             (retryable)
    ├── SourceError             the place the bytes come from
    │   ├── SourceUnresolvable  source_unresolvable
    │   ├── SourceNotFound      source_not_found
    │   ├── SourceForbidden     source_forbidden
    │   ├── SourceRefused       source_refused
    │   ├── SourceUnavailable   source_unavailable  (retryable)
    │   ├── SourceBusy          source_busy         (retryable)
    │   ├── SourceTimeout       source_timeout      (retryable)
    │   ├── SourceChanged       source_changed      (retryable)
    │   ├── SourceTruncated     source_truncated    (retryable)
    │   ├── SourceTooLarge      source_too_large
    │   ├── SourceEmpty         source_empty
    │   ├── AddressForbidden    address_forbidden
    │   ├── RedirectRefused     redirect_refused
    │   └── ChecksumMismatch    checksum_mismatch
    ├── MediaError              what the bytes turned out to be
    │   ├── NotMedia            not_media
    │   └── Undecodable         undecodable
    ├── WorkError               a tool or this machine
    │   ├── ToolFailed          tool_failed
    │   ├── ToolInterrupted     tool_interrupted    (retryable)
    │   ├── ToolStalled         tool_stalled        (retryable)
    │   ├── DiskFull            disk_full
    │   └── DiskFailed          disk_failed
    ├── StoreError              the object store or the vault
    │   ├── StoreUnavailable    store_unavailable   (retryable)
    │   ├── StoreRefused        store_refused
    │   ├── ObjectMissing       object_missing
    │   └── ObjectDamaged       object_damaged
    ├── CatalogueUnavailable    catalogue_unavailable (retryable)
    ├── OrchestratorUnavailable orchestrator_unavailable (retryable)
    ├── WorkAbandoned           work_abandoned: the runs of it end unexpectedly, again and again
    ├── LeaseLost               lease_lost
    ├── Cancelled               cancelled
    └── StackError              stack_error: the embedded stack can't start or stop

Each leaf carries ``code`` (stable, for programs), ``retryable`` (whether doing
the same again can succeed without anybody changing anything), ``hint`` (what a
person can do next) and ``evidence`` (digests, offsets, argv, the end of
stderr). Foreign errors are translated once, at the adapter that met them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class HeadraceError(Exception):
    """Anything Headrace reports; ``str()`` of it is one line for a person."""

    code = "error"
    retryable = False
    hint = ""

    def __init__(self, message: str, *, hint: str | None = None, **evidence: Any) -> None:
        """Say what happened in ``message``; ``evidence`` must be JSON-able values."""
        super().__init__(message)
        self.message = message
        self.evidence = evidence
        if hint is not None:
            self.hint = hint

    def to_json(self) -> dict[str, Any]:
        """Return the ``error`` object of items and problem documents (DESIGN.md, command line)."""
        return {"code": self.code, "message": self.message, "retryable": self.retryable, "hint": self.hint}


class RequestError(HeadraceError):
    """The caller asked for something that can't be; the same request fails again."""

    code = "request_error"


class InvalidRequest(RequestError):
    """A field is missing, malformed or out of range."""

    code = "invalid_request"


class InvalidSource(RequestError):
    """The text does not name a source that Headrace can read."""

    code = "invalid_source"
    hint = "Give an http(s) URL, a local path, asset:ID or upload:ID."


class InvalidRecipe(RequestError):
    """The recipe is unknown or its file does not describe one."""

    code = "invalid_recipe"
    hint = "Use web, archive or audio, or the path of a recipe in YAML."


class NotFound(RequestError):
    """Nothing by that name, or it belongs to somebody else (which is not revealed)."""

    code = "not_found"


class NotAllowed(RequestError):
    """The token is missing, wrong or expired."""

    code = "not_allowed"


class Conflict(RequestError):
    """The same key was used with another body, or the state forbids the change."""

    code = "conflict"


class Limited(RequestError):
    """Too much at once; wait and ask again."""

    code = "limited"
    retryable = True


class SourceError(HeadraceError):
    """The source can't give its bytes as asked."""

    code = "source_error"


class SourceUnresolvable(SourceError):
    """The host's name has no address."""

    code = "source_unresolvable"
    hint = "Check the spelling of the host's name, and that this machine's DNS knows it."


class SourceNotFound(SourceError):
    """The server says that it has no such thing (404, 410), or the file does not exist."""

    code = "source_not_found"
    hint = "Check the address in a browser; the file may have been moved or removed."


class SourceForbidden(SourceError):
    """The server wants other credentials (401, 403, 407)."""

    code = "source_forbidden"
    hint = "The address may have expired or needs credentials; ask for a fresh one."


class SourceRefused(SourceError):
    """The server refused the request for good (another 4xx), or answered what HTTP does not allow."""

    code = "source_refused"


class SourceUnavailable(SourceError):
    """The server is overloaded, unreachable or broke off (5xx, 429, connection errors)."""

    code = "source_unavailable"
    retryable = True
    hint = "It will be tried again; if it stays so, check the server."


class SourceBusy(SourceError):
    """The host isn't asked now: its connections are all in use by us, or it must be left alone for a while."""

    code = "source_busy"
    retryable = True
    hint = "It will be tried again by itself."


class SourceTimeout(SourceError):
    """No bytes came for too long, or they came too slowly."""

    code = "source_timeout"
    retryable = True
    hint = "It will be tried again; if it stays so, the server is too slow."


class SourceChanged(SourceError):
    """The source became another file while it was read; the download starts again."""

    code = "source_changed"
    retryable = True


class SourceTruncated(SourceError):
    """Fewer or more bytes arrived than the server announced."""

    code = "source_truncated"
    retryable = True


class SourceTooLarge(SourceError):
    """More bytes than the settings allow."""

    code = "source_too_large"
    hint = "Raise HEADRACE_MAX_SOURCE_BYTES if files of this size are wanted."


class SourceEmpty(SourceError):
    """The source has no bytes at all."""

    code = "source_empty"
    hint = "The file at the source is empty; check what was exported there."


class AddressForbidden(SourceError):
    """The host's address is private, loopback or otherwise not public."""

    code = "address_forbidden"
    hint = "If this address is meant, allow its network with HEADRACE_ALLOWED_NETWORKS."


class RedirectRefused(SourceError):
    """A redirect leads where it must not (too many, https to http, another scheme)."""

    code = "redirect_refused"
    hint = "Give the address that the redirects should have ended at."


class ChecksumMismatch(SourceError):
    """The bytes are not those that were promised."""

    code = "checksum_mismatch"
    hint = "Compare the checksum with the publisher's; the file may have been replaced or damaged."


class MediaError(HeadraceError):
    """The bytes arrived, and they are not what a recipe can use."""

    code = "media_error"


class NotMedia(MediaError):
    """No known container, or nothing in it to play; the master is kept."""

    code = "not_media"
    hint = "The original is kept; to keep such files on purpose, order them with --recipe archive."


class Undecodable(MediaError):
    """A container was recognised, but it can't be decoded."""

    code = "undecodable"
    hint = "The original is kept; try the file in another player, or export it again."


class WorkError(HeadraceError):
    """A tool failed, or this machine has run out of something."""

    code = "work_error"


class ToolFailed(WorkError):
    """A program ended with an error that its input or arguments cause."""

    code = "tool_failed"


class ToolInterrupted(WorkError):
    """A program was killed or ran out of memory or I/O; doing it again can help."""

    code = "tool_interrupted"
    retryable = True


class ToolStalled(WorkError):
    """A program made no progress for too long and was stopped."""

    code = "tool_stalled"
    retryable = True


class DiskFull(WorkError):
    """No space is left for what must be written."""

    code = "disk_full"
    hint = "Free some space on this disk, then retry."


class DiskFailed(WorkError):
    """A file of ours can't be read or written."""

    code = "disk_failed"
    hint = "Check the folder's permissions and the disk's health."


class StoreError(HeadraceError):
    """The object store or the vault."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """The object store does not answer, or answers 5xx."""

    code = "store_unavailable"
    retryable = True


class StoreRefused(StoreError):
    """The object store refuses the credentials, the bucket or the request."""

    code = "store_refused"
    hint = "Check the endpoint, the keys and the bucket's name in the settings."


class ObjectMissing(StoreError):
    """An object that should be there is not."""

    code = "object_missing"


class ObjectDamaged(StoreError):
    """Bytes came back that are not those that were stored."""

    code = "object_damaged"


class CatalogueUnavailable(HeadraceError):
    """Postgres does not answer, or broke off."""

    code = "catalogue_unavailable"
    retryable = True


class OrchestratorUnavailable(HeadraceError):
    """Prefect's server does not answer; what was ordered is kept, and starts when it does."""

    code = "orchestrator_unavailable"
    retryable = True


class WorkAbandoned(HeadraceError):
    """Every run of this work ended without saying why; the runs' logs in the Prefect UI tell more."""

    code = "work_abandoned"
    hint = "Look at the run's log in the Prefect UI, then retry the order."


class LeaseLost(HeadraceError):
    """Somebody else has the right to this work now; stop, and touch nothing."""

    code = "lease_lost"


class Cancelled(HeadraceError):
    """A person cancelled the order."""

    code = "cancelled"


class StackError(HeadraceError):
    """The embedded stack can't do what was asked; the message names the part and the reason."""

    code = "stack_error"


def leaves(root: type[HeadraceError] = HeadraceError) -> Iterator[type[HeadraceError]]:
    """Yield every class of the tree that has no subclass of its own."""
    children = root.__subclasses__()
    if not children:
        yield root
    for child in children:
        yield from leaves(child)


def from_json(body: dict[str, Any]) -> HeadraceError:
    """Return the error that ``to_json`` described; an unknown code becomes a plain ``HeadraceError``."""
    kind = next((leaf for leaf in leaves() if leaf.code == body["code"]), HeadraceError)
    return kind(body["message"], hint=body["hint"])
