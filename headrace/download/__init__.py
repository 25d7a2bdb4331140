"""Download: bytes from a hostile source into a file, resumable and proven.

``fetch`` is the door. What always holds:

1. The final name appears atomically, and only with all checks passed.
2. A resume is pinned to the validator of the first reply (strong ETag, else date); a
   source that changed starts again, old and new bytes are never spliced.
3. Data first, journal after, both synced: the journal never claims bytes that may be lost.
4. Bytes are asked for unencoded, because lengths and ranges count encoded ones.
5. Each hop's address is checked by ``guard``.
"""

from headrace.download.guard import Guard
from headrace.download.transfer import Wish, fetch

__all__ = ["Guard", "Wish", "fetch"]
