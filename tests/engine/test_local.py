"""Local folders that orders may read from: only what lies in them, only what is finished."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from headrace import local
from headrace.errors import InvalidSource, SourceForbidden, SourceNotFound
from headrace.feed import list_folder


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "open"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "film.mp4").write_text("film")
    (folder / "inner" / "näh & co.mp4").write_text("inner")
    return folder


def content(path: Path, root: Path) -> bytes:
    with local.opened(path, [root]) as file:
        return file.read()


def old(path: Path) -> None:
    """Let a file be written a minute ago."""
    os.utime(path, (time.time() - 60, time.time() - 60))


def test_a_file_inside_is_read(root):
    """Also through a link that stays inside."""
    (root / "link.mp4").symlink_to(root / "film.mp4")
    assert content(root / "film.mp4", root) == b"film"
    assert content(root / "link.mp4", root) == b"film"


@pytest.mark.parametrize("way", ["../secret", "link", "folder/secret"])
def test_nothing_outside_is_read(root, way):
    """Neither over the folder above nor through links to files and folders elsewhere."""
    (root / "link").symlink_to(root.parent / "secret")
    (root / "folder").symlink_to(root.parent)
    with pytest.raises(SourceForbidden, match="open to orders"):
        content(root / way, root)


def test_without_folders_nothing_is_read(root):
    """The default: no folder is open."""
    with pytest.raises(SourceForbidden), local.opened(root / "film.mp4", []):
        pass


def test_a_folder_that_begins_alike_is_another(root):
    """``/srv/open-not`` isn't inside ``/srv/open``."""
    other = root.parent / "open-not"
    other.mkdir()
    (other / "film.mp4").write_text("other")
    with pytest.raises(SourceForbidden):
        content(other / "film.mp4", root)


def test_only_ordinary_files_are_read(root):
    """A pipe would never end, and a folder has no bytes."""
    os.mkfifo(root / "pipe.mp4")
    for name in ("pipe.mp4", "inner"):
        with pytest.raises(SourceForbidden, match="ordinary"):
            content(root / name, root)
    with pytest.raises(SourceNotFound):
        content(root / "missing.mp4", root)


def test_files_of_a_folder(root):
    """All below it, sorted; hidden, unfinished, empty ones and links aren't among them."""
    for name in (".hidden.mp4", "half.mp4.part", "half.crdownload"):
        (root / name).write_text("x")
    (root / "empty.mp4").touch()
    (root / "link.mp4").symlink_to(root / "film.mp4")
    found = local.files(root, [root], most=10)
    assert [path.relative_to(root.resolve()).as_posix() for path in found] == ["film.mp4", "inner/näh & co.mp4"]
    with pytest.raises(InvalidSource, match="more than 1"):
        local.files(root, [root], most=1)
    with pytest.raises(InvalidSource, match="not open"):
        local.files(root.parent, [root], most=10)


def test_a_watched_folder_waits_for_files_to_settle(root):
    """What was written a moment ago may still grow; what has changed is a new entry."""
    assert list_folder(root, [root]) == []
    old(root / "film.mp4")
    (first,) = list_folder(root, [root])
    assert (first.url, first.title) == (f"file://{root.resolve()}/film.mp4", "film.mp4")
    (root / "film.mp4").write_text("another film")
    old(root / "film.mp4")
    (second,) = list_folder(root, [root])
    assert second.guid != first.guid


def test_names_survive_the_way_through_a_url(root):
    """Spaces, umlauts and ampersands come back as they were."""
    found = local.sources(root, [root], most=10)
    assert sorted(Path(source.locator).read_text() for source in found) == ["film", "inner"]


@pytest.mark.parametrize("name", [b"latin-\xe4.mp4", b"two\nlines.mp4"])
def test_an_odd_name_is_told_and_stops_no_other_file(root, name):
    """An order of the folder says which one; a watched folder goes on without it."""
    odd = Path(os.fsdecode(os.fsencode(root) + b"/" + name))
    odd.write_text("odd")
    old(odd)
    old(root / "film.mp4")
    with pytest.raises(InvalidSource, match="can't be that of a source"):
        local.sources(root, [root], most=10)
    assert [entry.title for entry in list_folder(root, [root])] == ["film.mp4"]


def test_a_file_that_goes_while_its_folder_is_read_is_left_out(root, monkeypatch):
    """Whoever puts files there may take them away."""
    old(root / "film.mp4")
    monkeypatch.setattr("headrace.feed.local.files", lambda *_, **__: [root / "film.mp4", root / "gone.mp4"])
    assert [entry.title for entry in list_folder(root, [root])] == ["film.mp4"]
