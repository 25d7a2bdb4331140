"""The vault: the master archive, one object for each asset's original bytes.

What always holds:

1. A master's object is written, read back and compared with the plaintext's BLAKE3 before
   anybody is told that it is there (durable before known).
2. Object keys are UUIDs, so a late delete can never hit another write of the same content.
3. Every read checks the hash of the plaintext; a whole read that ends without an error
   gave the right bytes.
4. Compression is decided by what the content is, then by samples, and the reason is kept.

The vault knows objects and bytes; which asset has which master stands in the catalogue,
whose transaction the caller commits between ``store`` and acknowledging.
"""

from headrace.vault.compress import Choice, choose
from headrace.vault.vault import Vault

__all__ = ["Choice", "Vault", "choose"]
