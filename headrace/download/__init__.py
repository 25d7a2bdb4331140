"""Download: bytes from a hostile source into a file, fast, resumable and proven.

``Downloader.fetch`` is the door. What always holds:

1. The final name appears atomically, and only with all checks passed.
2. Bytes of several replies are put together only where they are pinned to one version of the
   source (strong ETag, else date), or proven at the end by a digest; a source that changed
   starts again, old and new bytes are never spliced.
3. The journal claims blocks by their hashes, and is believed after comparing (``journal``, ``part``).
4. Bytes are asked for unencoded, because lengths and ranges count encoded ones.
5. Each hop's address is checked by ``guard``, and shown what ``access`` allows it to see.
6. Each request has its turn at its host (``turns``, ``headrace.hosts``).

``transfer`` tells the story of one file; ``origins`` are where it lies, ``crew`` leads its
connections (``worker``), ``ranges`` (pure) shares the file out, ``part`` is the file itself and
``hashing`` its digests. ``offer``, ``proof`` and ``metalink`` (pure) read what replies and
publishers say, ``signed`` is for addresses of our own making, ``body`` reads the bytes,
``bandwidth`` slows them, ``batch`` does many files.
"""

from headrace.download.access import Access
from headrace.download.bandwidth import Bandwidth
from headrace.download.guard import Guard
from headrace.download.signed import Signed
from headrace.download.transfer import Downloader, Wish

__all__ = ["Access", "Bandwidth", "Downloader", "Guard", "Signed", "Wish"]
