"""Feeds: RSS, Atom, HTML indexes and S3 prefixes; new entries only, whatever the feed says."""

from __future__ import annotations

import pytest

from headrace import feed
from headrace.download import Guard
from headrace.errors import AddressForbidden, SourceRefused
from headrace.stores.memory import memory_bucket
from tests.engine.test_download import LOCAL
from tests.servers import serving

RSS = b"""<?xml version="1.0"?><rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/"><channel>
<item><title>Two</title><guid>g2</guid><enclosure url="/two.mp3" length="12" type="audio/mpeg"/></item>
<item><title>One</title><guid>g1</guid><enclosure url="http://h/one.mp3" length="x"/></item>
<item><title>No enclosure</title><guid>g0</guid></item>
<item><title>Hostile</title><enclosure url="file:///etc/passwd"/></item>
<item><title>Media</title><media:content url="http://h/m.mp4" fileSize="7"/></item>
</channel></rss>"""

ATOM = b"""<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>a1</id><title>A</title>
<link rel="enclosure" href="a.mp4"/><link rel="alternate" href="a.html"/></entry></feed>"""

INDEX = b"""<!DOCTYPE html><a href="?C=N">x</a><a href="../">up</a><a href="b%20c.MP4">b</a><a href="t.txt">t</a>
<a href="b%20c.MP4">again</a><a href="javascript:x.mp4">j</a><a href=http://[bad.mp4>broken</a>"""


def test_rss_with_enclosures():
    """The oldest first; relative addresses resolved; entries that name no web address left out."""
    entries = feed.parse(RSS, "http://base/feed.xml")
    assert [(e.guid, e.url, e.title, e.size_bytes) for e in entries] == [
        ("http://h/m.mp4", "http://h/m.mp4", "Media", 7),
        ("g1", "http://h/one.mp3", "One", None),
        ("g2", "http://base/two.mp3", "Two", 12),
    ]


def test_atom_with_enclosures():
    """RFC 4287's ``rel=enclosure`` only."""
    assert [(e.guid, e.url) for e in feed.parse(ATOM, "http://base/x/")] == [("a1", "http://base/x/a.mp4")]


def test_an_html_index():
    """Links that end like media files, each once."""
    assert [e.url for e in feed.parse(INDEX, "http://base/d/")] == ["http://base/d/b%20c.MP4"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"<a>",
        b"<other/>",
        b'<?xml version="1.0" encoding="unheard-of"?><rss/>',
        b'<!DOCTYPE x [<!ENTITY a "b">]><rss>&a;</rss>',
        b'<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><channel><item><title>&x;</title></item></channel></rss>',
    ],
)
def test_what_is_no_feed_is_refused(body):
    """Also entity tricks: no entity is ever expanded."""
    with pytest.raises(SourceRefused):
        feed.parse(body, "http://base/")


def test_a_feed_that_has_not_changed_costs_a_304():
    """The second look sends the validators and gets no entries."""
    with serving() as server:
        server.feeds["/feed"] = ("application/rss+xml", RSS, '"v1"')
        first = feed.read(server.url + "/feed", LOCAL)
        assert len(first.entries) == 3
        assert first.etag == '"v1"'
        second = feed.read(server.url + "/feed", LOCAL, etag=first.etag, last_modified=first.last_modified)
        assert not second.changed
        assert second.entries == ()
        assert server.seen["/feed"][1]["if-none-match"] == '"v1"'


def test_a_feed_on_a_private_address_is_refused():
    """The guard holds for feeds too."""
    with serving() as server, pytest.raises(AddressForbidden):
        feed.read(server.url + "/feed", Guard())


def test_an_s3_prefix_lists_media_files():
    """A changed object is a new entry."""
    bucket = memory_bucket()
    bucket.put_bytes("in/a.mp4", b"1", content_type="video/mp4")
    bucket.put_bytes("in/notes.txt", b"1", content_type="text/plain")
    bucket.put_bytes("out/b.mp4", b"1", content_type="video/mp4")
    first = feed.list_prefix(bucket, "films", "in/")
    assert [e.url for e in first] == ["s3://films/in/a.mp4"]
    bucket.put_bytes("in/a.mp4", b"22", content_type="video/mp4")
    assert feed.list_prefix(bucket, "films", "in/")[0].guid != first[0].guid
