"""Where a file's bytes come from: its source and its mirrors, each pinned to its own version.

1. An ETag or a date speaks for one server only. So each origin is pinned to what its own first
   reply said, and bytes of several are put together only where a digest of the whole, or of
   its pieces, will tell whether they belong together. Else one origin is used at a time.
2. A reply continues the file only if it is of the version its origin is pinned to, and says
   the same size as all others.
3. Credentials for the source go to no mirror on another origin (in the web's sense).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence

import httpx

from headrace.download import offer as offers
from headrace.download import ranges
from headrace.download.access import Access, same_origin
from headrace.download.body import Reply
from headrace.download.journal import Header, Validator, check_of
from headrace.download.offer import Offer
from headrace.download.session import Session, check_status
from headrace.download.turns import NoRoom, extra
from headrace.errors import SourceChanged, SourceEmpty, SourceError, SourceRefused
from headrace.log import Log
from headrace.source import redact

log = Log(__name__)

UNPINNED = Validator(None, None)

WHOLE_ANSWERS = 3
"""How often in a row a server that has answered ranges may answer one with the whole: an edge of a CDN may be odd."""

REST_SECONDS = 5.0
"""An origin that fails is asked again after so long, unless it is the only one."""

SLOW_REST_SECONDS = 30.0
"""Likewise for one that is much slower than another."""

BAD_PIECES = 2
"""An origin whose bytes were wrong so often is not asked any more, as long as there is another."""


class UnableToRange(Exception):  # noqa: N818 - not an error: another way is taken
    """The server answers every request with the whole file."""


class Origin:
    """One address of the file."""

    def __init__(self, session: Session, url: str, access: Access, *, typed: bool, signed: bool) -> None:
        self.url = url
        self.signed = signed
        self.check = check_of(url.partition("?")[0] if signed else url)
        """Tells whether a journal is of this address."""
        self.pinned = UNPINNED
        self.active = 0
        """Connections that bring bytes from it."""
        self.rests_until = 0.0
        self.left_out = False
        self.bad_pieces = 0
        self._session = session
        self._access = access
        self._typed = typed
        self._if_range = True
        self._whole_answers = 0

    def probe(self, stack: contextlib.ExitStack, *, ranged: bool, proven: bool) -> tuple[Reply, Offer]:
        """Ask for the first block, or for the whole where the server has no ranges.

        ``proven`` says that a digest will tell whether replies belong together. Raises
        ``UnableToRange`` where the whole must be asked for, or a ``SourceError``.
        """
        asked = {"Range": f"bytes=0-{ranges.MIN_BLOCK_BYTES - 1}"} if ranged else {}
        reply = stack.enter_context(self._session.get(self.url, asked, access=self._access, typed=self._typed))
        if offers.is_empty(reply):
            raise SourceEmpty("the source has no bytes")
        if asked and reply.status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise UnableToRange
        check_status(reply)
        if reply.headers.get("content-length") == "0":
            raise SourceEmpty("the source has no bytes")
        offer = offers.of(reply, stored=self.signed)
        if (
            asked
            and not offer.ranged
            and (offer.size_bytes == ranges.MIN_BLOCK_BYTES or "content-range" in reply.headers)
        ):
            raise UnableToRange  # some servers say 200 and cut the body to the range
        if offer.ranged and (not asked or offer.start != 0 or offer.size_bytes is None):
            if not asked:
                raise SourceRefused("the server answers a plain request with a part of the file")
            raise UnableToRange  # a range, but not one that helps: the whole is asked for instead
        continued = proven or offer.validator.if_range is not None or bool(offer.promises)
        if offer.ranged and offer.end != offer.size_bytes and not continued:
            raise UnableToRange  # nothing would tell whether the next range is of the same file
        self.pinned = offer.validator
        return reply, offer

    def open(self, stack: contextlib.ExitStack, start: int, end: int, size_bytes: int) -> tuple[Reply, Offer]:
        """Ask for a part of the file that was begun.

        Raises ``SourceChanged``, ``UnableToRange``, or what the request ends in.
        """
        while True:
            found = self._open(stack, start, end, size_bytes)
            if found is not None:
                self._whole_answers = 0
                return found
            self._whole_answers += 1
            if self._whole_answers > WHOLE_ANSWERS:
                raise UnableToRange

    def _open(self, stack: contextlib.ExitStack, start: int, end: int, size_bytes: int) -> tuple[Reply, Offer] | None:
        """Ask once; ``None`` where the answer is the whole file.

        A changed source answers an ``If-Range`` with 200 (RFC 9110, 13.1.5); some servers do so
        though nothing has changed, and are asked again without it: the reply is compared anyway.
        """
        for plainly in (not self._if_range, True):
            asked = self._range(start, end, plainly=plainly)
            with contextlib.ExitStack() as mine:
                reply = mine.enter_context(self._session.get(self.url, asked, access=self._access, typed=self._typed))
                check_status(reply)
                offer = offers.of(reply, stored=self.signed)
                if offer.ranged:
                    offers.fits(offer, start, size_bytes, self.pinned)
                    if self.pinned.if_range is None:
                        self.pinned = offer.validator  # a mirror's first reply
                    stack.push(mine.pop_all())
                    return reply, offer
            if self.pinned.if_range is not None and not self.pinned.agrees(offer.validator):
                raise SourceChanged("the source became another file while it was downloaded")
            if "If-Range" not in asked:
                break
            self._if_range = False
        return None

    def _range(self, start: int, end: int, *, plainly: bool) -> dict[str, str]:
        """Return the headers that ask for a part of the version that was begun."""
        asked = {"Range": f"bytes={start}-{end - 1}"}
        if self.pinned.if_range is not None and not plainly:
            asked["If-Range"] = self.pinned.if_range
        return asked


def _most_telling(errors: Sequence[SourceError]) -> SourceError:
    """Return what to report of several origins: what a retry can help, if anything; else the first."""
    helped = [error for error in errors if error.retryable]
    return next((error for error in helped if not isinstance(error, SourceChanged)), next(iter(helped), errors[0]))


@contextlib.contextmanager
def _not_waiting(really: bool) -> Iterator[None]:  # noqa: FBT001 - reads as a sentence
    """Wait for no host's turn as long as there are other origins: they may be free."""
    if really:
        with extra():
            yield
    else:
        yield


class Origins:
    """The places that have a file, the preferred one first; for any thread."""

    def __init__(
        self, session: Session, url: str, mirrors: Sequence[str], access: Access, *, typed: bool, signed: bool
    ) -> None:
        """``signed`` is said of the first (``Wish.signed``)."""
        self._lock = threading.Lock()
        self._live = [
            Origin(
                session,
                one,
                access if same_origin(one, url) else access.elsewhere(),
                typed=typed,
                signed=signed and one == url,
            )
            for one in dict.fromkeys((url, *mirrors))
        ]
        self.current = self._live[0]
        """The one that the download began with."""
        self._several = len(self._live) > 1
        self._mixed = False
        self._alone = False
        self._used: set[Origin] = set()

    def has(self, header: Header) -> bool:
        """Return whether an origin can go on with what a journal tells of, without a digest of the whole.

        It is the same URL, or the same but for its query (such as a signature) and has a strong
        ETag: dates, and ETags that are made of date and size, are alike for files that are not.
        What several origins may have brought needs a digest in any case.
        """
        if header.mixed or header.validator.if_range is None:
            return False
        same = self._same(header)
        return same is not None and (same.check == header.url_check or header.validator.etag is not None)

    def _same(self, header: Header) -> Origin | None:
        path = header.url.partition("?")[0]
        alike = [one for one in self._live if redact(one.url).partition("?")[0] == path]
        return next((one for one in alike if one.check == header.url_check), next(iter(alike), None))

    def begin_with(self, header: Header) -> None:
        """Go on where a journal says that a download had begun: with that origin, of that version."""
        same = self._same(header)
        self.current = same or self._live[0]
        if same is not None:
            same.pinned = header.validator
        self._used = {self.current}

    @property
    def mixed(self) -> bool:
        """Whether several may bring, or have brought, bytes of one file."""
        return self._mixed and self._several

    def mix(self, *, proven: bool) -> None:
        """Ask the others too, if a digest will tell whether their bytes belong together."""
        self._mixed = proven and not self._alone

    def probe(
        self, stack: contextlib.ExitStack, *, ranged: bool, proven: bool, size_bytes: int | None
    ) -> tuple[Reply, Offer]:
        """Open the first origin that answers as it should, with ``size_bytes`` where that is known.

        Raises ``UnableToRange``, or the ``SourceError`` that tells most.
        """
        errors: list[SourceError] = []
        candidates = self._rested()
        for origin in candidates:
            try:
                with contextlib.ExitStack() as mine:
                    with _not_waiting(origin is not candidates[-1]):
                        reply, offer = origin.probe(mine, ranged=ranged, proven=proven)
                    if size_bytes is not None and offer.size_bytes not in {size_bytes, None}:
                        raise SourceRefused(f"the source has {offer.size_bytes} bytes, and {size_bytes} are wanted")
                    stack.push(mine.pop_all())
            except NoRoom:
                log.info("download.origin_busy", source=redact(origin.url))
            except SourceError as error:
                errors.append(error)
                self._failed(origin, error)
            else:
                self.current, self._used = origin, {origin}
                return reply, offer
        raise _most_telling(errors)

    def open(
        self, stack: contextlib.ExitStack, start: int, end: int, size_bytes: int, *, avoid: Origin | None = None
    ) -> tuple[Origin, Reply, Offer]:
        """Ask whichever origin is least busy for a part of the file; ``avoid`` was slow, and rests.

        Raises ``UnableToRange``, ``NoRoom``, or the ``SourceError`` that tells most.
        """
        if avoid is not None:
            avoid.rests_until = time.monotonic() + SLOW_REST_SECONDS
        candidates = self._candidates()
        errors: list[SourceError] = []
        for origin in candidates:
            try:
                with contextlib.ExitStack() as mine:
                    mine.enter_context(self._at_work(origin))
                    with _not_waiting(origin is not candidates[-1]):
                        reply, offer = self._open(mine, origin, start, end, size_bytes)
                    stack.push(mine.pop_all())
            except NoRoom:
                if origin is candidates[-1] and not errors:
                    raise
            except SourceError as error:
                errors.append(error)
                if self._mixed:
                    self._failed(origin, error)
            else:
                return origin, reply, offer
        raise _most_telling(errors)

    def _open(
        self, stack: contextlib.ExitStack, origin: Origin, start: int, end: int, size_bytes: int
    ) -> tuple[Reply, Offer]:
        try:
            return origin.open(stack, start, end, size_bytes)
        except UnableToRange:
            if not self._mixed or len(self._live) == 1:
                raise
            raise SourceRefused("the server answers ranges with the whole file") from None

    @contextlib.contextmanager
    def _at_work(self, origin: Origin) -> Iterator[None]:
        with self._lock:
            origin.active += 1
            self._used.add(origin)
        try:
            yield
        finally:
            with self._lock:
                origin.active -= 1

    def _rested(self) -> list[Origin]:
        now = time.monotonic()
        with self._lock:
            return sorted(self._live, key=lambda one: one.rests_until > now)

    def _candidates(self) -> list[Origin]:
        if not self._mixed:
            return [self.current]
        now = time.monotonic()
        with self._lock:
            return sorted(self._live, key=lambda one: (one.rests_until > now, one.active))

    def _failed(self, origin: Origin, error: SourceError) -> None:
        """Let an origin rest, or leave it out where it will go on failing."""
        log.info("download.origin", source=redact(origin.url), why=error.message)
        lasting = not error.retryable or isinstance(error, SourceChanged)
        # Some servers refuse a connection too many: while others get on, it is not meant for good.
        if not (lasting and not origin.active and self._leave_out(origin)):
            origin.rests_until = time.monotonic() + REST_SECONDS

    def _leave_out(self, origin: Origin) -> bool:
        """Ask an origin no more; ``False`` where it is the only one."""
        with self._lock:
            if origin not in self._live or len(self._live) == 1:
                return False
            self._live.remove(origin)
            origin.left_out = True
            return True

    def blame(self, origin: Origin) -> None:
        """Take note that bytes of an origin were not what was promised."""
        origin.bad_pieces += 1
        origin.rests_until = time.monotonic() + SLOW_REST_SECONDS
        if origin.bad_pieces >= BAD_PIECES and self._mixed and self._leave_out(origin):
            log.warning("download.origin_left_out", source=redact(origin.url), why="its bytes are wrong")

    def next_after_failure(self) -> bool:
        """Turn to the next origin where the current one can't go on; ``False`` where there is none."""
        if self._mixed or not self._leave_out(self.current):
            return False  # mixed: all of them have been asked
        self.current = self._live[0]
        return True

    def next_after_mismatch(self) -> bool:
        """Turn to the next origin after a whole that isn't what was promised; ``False`` where there is none.

        Where several brought it nobody knows which was wrong: each is tried on its own.
        """
        if len(self._used) == 1 and not self._leave_out(self.current):
            return False
        self._alone, self._mixed, self.current = True, False, self._live[0]
        return True
