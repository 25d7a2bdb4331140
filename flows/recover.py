"""``python -m flows.recover``: hand over what is due at once, after a start of the embedded stack.

By then every process of the last run is gone: its leases were given back and its runs
ended (``headrace.stack.jobs``), so whatever it was at is due. Without this the work
would wait for the next ``reconcile``.
"""

from __future__ import annotations

import sys

from flows import reconcile
from headrace.catalogue.work import Work
from headrace.errors import HeadraceError
from headrace.wiring import house


def main() -> int:
    """Hand over what is due; an error is one line on stderr."""
    try:
        for kind in Work:
            reconcile.restart(house(), kind)
    except HeadraceError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
