"""A file that lies in several places: used together where a digest tells whether they agree."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from headrace.download import Access, Downloader, Guard, Wish, journal
from headrace.download.proof import promise
from headrace.download.ranges import block_bytes
from headrace.errors import Cancelled, ChecksumMismatch, SourceNotFound, SourceRefused, SourceTruncated
from headrace.model import Downloaded, Pieces
from tests.servers import LARGE, LARGER, Server, serving

RIGHT = promise("sha256", hashlib.sha256(LARGE).hexdigest(), "order")
MIB = 2**20


def pieces(length: int, algorithm: str = "sha256", content: bytes = LARGE) -> Pieces:
    values = (hashlib.new(algorithm, content[at : at + length]).hexdigest() for at in range(0, len(content), length))
    return Pieces(algorithm, length, tuple(values))


def fetch(server: Server, names: str, folder: Path, **wish) -> Downloaded:
    """Fetch what is called by the first name; the others are its mirrors."""
    first, *mirrors = [f"{server.url}/large/{name}" for name in names.split()]
    downloader = Downloader(Guard(typed_may_be_private=True))
    try:
        return downloader.fetch(Wish(first, mirrors=tuple(mirrors), **wish), folder / "film")
    finally:
        downloader.close()


def sent(server: Server, name: str) -> int:
    return server.sent.get(f"/large/{name}", 0)


def test_mirrors_bring_parts_of_one_file(server, tmp_path):
    """With a digest both bring a good part of it, each held to its own ETag; nothing comes twice."""
    done = fetch(server, "steady second", tmp_path, promises=(RIGHT,))
    assert done.path.read_bytes() == LARGE
    assert done.proofs == ("content-length", "sha256:order")
    assert sent(server, "steady") > 4 * MIB
    assert sent(server, "second") > 4 * MIB
    assert sent(server, "steady") + sent(server, "second") < len(LARGE) + 4 * MIB
    pinned = {seen.get("if-range") for seen in server.seen["/large/second"]}
    assert '"one"' not in pinned


def test_without_a_digest_mirrors_are_not_mixed(server, tmp_path):
    """Nothing would tell whether they have the same file."""
    assert fetch(server, "steady other", tmp_path).path.read_bytes() == LARGE
    assert sent(server, "other") == 0


@pytest.mark.parametrize("first", ["missing", "longer"])
def test_a_mirror_serves_where_the_source_can_not(server, tmp_path, first):
    """A source that is gone, or has another size than was promised, is passed over."""
    done = fetch(server, f"{first} steady", tmp_path, size_bytes=len(LARGE))
    assert done.path.read_bytes() == LARGE


def test_all_missing_is_an_error(server, tmp_path):
    """The first one's error is told."""
    with pytest.raises(SourceNotFound):
        fetch(server, "missing missing?too", tmp_path)


def test_a_source_that_ends_in_the_middle_is_replaced(server, tmp_path):
    """With a digest what it has brought stays; without one the mirror's file comes whole."""
    assert fetch(server, "broken-at-5-mib steady", tmp_path, promises=(RIGHT,)).path.read_bytes() == LARGE
    assert sent(server, "steady") < len(LARGE)
    (tmp_path / "film").unlink()
    server.sent.clear()
    assert fetch(server, "broken-at-5-mib steady", tmp_path).path.read_bytes() == LARGE
    assert sent(server, "steady") == len(LARGE)


def test_where_no_mirror_answers_what_came_is_kept(server, tmp_path):
    """The bytes of a broken source aren't given up for a mirror that doesn't answer."""
    with pytest.raises(SourceNotFound):
        fetch(server, "broken-at-5-mib missing", tmp_path)
    assert sum(length for length, _ in journal.load(tmp_path / "film").claims.values()) > 0


def test_a_mirror_with_another_size_is_left_out(server, tmp_path):
    """Lengths must agree before a byte counts."""
    assert fetch(server, "steady longer", tmp_path, promises=(RIGHT,)).path.read_bytes() == LARGE
    assert sent(server, "longer") <= 4 * MIB


@pytest.mark.parametrize("names", ["steady other", "other steady"])
def test_a_mirror_with_another_file_costs_time_and_nothing_else(server, tmp_path, names):
    """The digest fails, then each is tried on its own."""
    assert fetch(server, names, tmp_path, promises=(RIGHT,)).path.read_bytes() == LARGE


def test_only_wrong_files_are_an_error(server, tmp_path):
    """Each is tried, none is right, and nothing is left."""
    with pytest.raises(ChecksumMismatch):
        fetch(server, "other other?again", tmp_path, promises=(RIGHT,))
    assert not list(tmp_path.iterdir())


def test_a_slow_mirror_holds_nothing_up(server, tmp_path):
    """What it holds is asked for elsewhere: at its own speed it would take minutes."""
    since = time.monotonic()
    assert fetch(server, "steady crawling", tmp_path, promises=(RIGHT,)).path.read_bytes() == LARGE
    assert time.monotonic() - since < 20
    assert sent(server, "crawling") < 3 * MIB


@pytest.mark.parametrize("length", [MIB, 4 * MIB, 3 * MIB + 17, 256 * 1024])
def test_a_wrong_piece_is_fetched_again_from_elsewhere(server, tmp_path, length):
    """One damaged byte costs one piece, of whatever length."""
    done = fetch(server, "damaged steady", tmp_path, pieces=pieces(length))
    assert done.path.read_bytes() == LARGE
    assert "sha256-pieces:metalink" in done.proofs
    assert sent(server, "steady") + sent(server, "damaged") <= len(LARGE) + 2 * length + 4 * MIB


def test_a_mirror_of_wrong_pieces_is_left_out(server, tmp_path):
    """After two of them it isn't asked any more, and nothing of it is believed."""
    assert fetch(server, "other steady", tmp_path, pieces=pieces(MIB)).path.read_bytes() == LARGE
    assert sent(server, "other") < len(LARGE) * 0.6


def test_a_piece_that_stays_wrong_is_named_and_the_others_are_kept(server, tmp_path):
    """Later only that piece is fetched, from a mirror that has it right."""
    with pytest.raises(ChecksumMismatch, match="piece 3 of 25"):
        fetch(server, "damaged", tmp_path, pieces=pieces(MIB))
    done = fetch(server, "damaged steady", tmp_path, pieces=pieces(MIB))
    assert done.path.read_bytes() == LARGE
    assert done.resumed_bytes > 10 * MIB
    assert sent(server, "steady") < 14 * MIB


def test_a_damaged_piece_on_the_disk_is_found_on_resume(server, tmp_path):
    """A journal is compared, pieces or not."""
    with pytest.raises(SourceNotFound):
        fetch(server, "broken-at-5-mib", tmp_path, pieces=pieces(2 * MIB), connections=1)
    part = journal.part_path(tmp_path / "film")
    with part.open("r+b") as file:
        file.seek(MIB + 3)
        file.write(b"damaged")
    done = fetch(server, "steady", tmp_path, pieces=pieces(2 * MIB))
    assert done.path.read_bytes() == LARGE
    assert done.resumed_bytes > 2 * MIB


def test_pieces_that_do_not_make_up_the_size_are_refused(server, tmp_path):
    """They speak of another file."""
    with pytest.raises(SourceRefused, match="pieces"):
        fetch(server, "steady", tmp_path, pieces=pieces(MIB, content=LARGE[: 5 * MIB]))


def test_pieces_prove_a_source_without_length_and_ranges(server, tmp_path):
    """A chunked answer is held to them too, and to the size that is known."""
    done = fetch(server, "chunked", tmp_path, pieces=pieces(MIB), size_bytes=len(LARGE))
    assert done.path.read_bytes() == LARGE
    with pytest.raises(ChecksumMismatch, match="piece"):
        fetch(server, "chunked", tmp_path, pieces=pieces(MIB, content=LARGER), size_bytes=len(LARGE))


def test_credentials_go_to_no_mirror_elsewhere(server, tmp_path):
    """A header for the source isn't one for other hosts."""
    with serving() as elsewhere:
        downloader = Downloader(Guard(typed_may_be_private=True))
        wish = Wish(
            f"{server.url}/large/steady",
            (RIGHT,),
            mirrors=(f"{elsewhere.url}/large/second",),
            access=Access(bearer="canary"),
        )
        downloader.fetch(wish, tmp_path / "film")
        downloader.close()
    assert all("authorization" in seen for seen in server.seen["/large/steady"])
    assert elsewhere.seen["/large/second"]
    assert not any("authorization" in seen for seen in elsewhere.seen["/large/second"])


def test_blocks_divide_pieces():
    """A piece is a whole number of blocks, and no block is larger than a connection may hold."""
    assert block_bytes(None, MIB) == MIB
    assert block_bytes(None, 16 * MIB) == 4 * MIB
    assert block_bytes(None, 300_000) == 300_000
    assert block_bytes(None, 9_000_001) <= 9_000_001
    for length in (5 * MIB + 1, 7_340_032, 100_000_000):
        assert length % block_bytes(None, length) == 0


@pytest.mark.parametrize("length", [MIB, 4 * MIB, 8 * MIB])
def test_pieces_that_divide_the_file_evenly(server, tmp_path, length):
    """As most published ones do: there is no piece behind the last."""
    right = pieces(length, content=LARGE[: 8 * MIB])
    done = fetch(server, "whole-blocks", tmp_path, pieces=right, size_bytes=8 * MIB)
    assert done.path.read_bytes() == LARGE[: 8 * MIB]


def test_what_mirrors_have_brought_is_not_gone_on_with_without_a_digest(server, tmp_path):
    """The journal says that they were mixed; the first one's ETag speaks for its own bytes only."""
    stop = threading.Event()
    threading.Thread(
        target=lambda: (wait_for(lambda: sent(server, "other") > 3 * MIB), stop.set()), daemon=True
    ).start()
    with pytest.raises(Cancelled):
        fetch_until(server, "steady other", tmp_path, stop, promises=(RIGHT,))
    assert journal.load(tmp_path / "film").header.mixed
    done = fetch(server, "steady", tmp_path)
    assert done.path.read_bytes() == LARGE
    assert done.resumed_bytes == 0


def test_a_resumed_download_that_is_mixed_now_says_so(server, tmp_path):
    """The journal of one origin, gone on with by two, is that of two."""
    with pytest.raises(SourceNotFound):
        fetch(server, "broken-at-5-mib", tmp_path, connections=1)
    assert not journal.load(tmp_path / "film").header.mixed
    stop = threading.Event()
    threading.Thread(
        target=lambda: (wait_for(lambda: sent(server, "second") > 3 * MIB), stop.set()), daemon=True
    ).start()
    with pytest.raises(Cancelled):
        fetch_until(server, "broken-at-5-mib second", tmp_path, stop, promises=(RIGHT,))
    assert journal.load(tmp_path / "film").header.mixed


@pytest.mark.parametrize("wished", [2 * MIB, len(LARGE) + 5])
def test_a_wished_size_cuts_nothing(server, tmp_path, wished):
    """A body without a length is read to its end, and must be as long as was said."""
    with pytest.raises((SourceRefused, SourceTruncated)):
        fetch(server, "chunked", tmp_path, size_bytes=wished)
    assert not (tmp_path / "film").exists()


def test_a_late_writer_writes_nothing(tmp_path):
    """Who has bytes in hand isn't taken over; who was taken over writes no more."""
    from headrace.download.crew import Crew
    from headrace.download.shares import Share

    crew = Crew(FakePart(), None, most=1, pace=None, stop=None, max_bytes=1 << 40)
    slow, rival = Share(0, MIB), Share(0, MIB, settled=False)
    crew._at_work.add(slow)
    assert crew.reserve(slow, 1000) == 1000
    assert crew.advance(slow, 1000)
    assert not crew.take_over(rival, slow, slow.position), "its bytes are on their way to the disk"
    assert crew.reserve(slow, 1000) == 1000
    assert crew.take_over(rival, slow, slow.position)
    assert not crew.begin_write(slow)
    assert not crew.advance(slow, 1000)


class FakePart:
    def __init__(self) -> None:
        self.blocks = SimpleNamespace(done_bytes=0)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def fetch_until(server: Server, names: str, folder: Path, stop: threading.Event, **wish) -> Downloaded:
    first, *mirrors = [f"{server.url}/large/{name}" for name in names.split()]
    downloader = Downloader(Guard(typed_may_be_private=True))
    try:
        return downloader.fetch(Wish(first, mirrors=tuple(mirrors), **wish), folder / "film", stop=stop)
    finally:
        downloader.close()
