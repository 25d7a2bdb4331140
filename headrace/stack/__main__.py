"""The daemon of ``headrace up --detach``: ``python -m headrace.stack HOME PIPE ENCODES [PORT_BASE]``."""

from __future__ import annotations

import sys
from pathlib import Path

from headrace.stack.control import Options, serve_detached

home, report, encodes, *port_base = sys.argv[1:]
sys.exit(serve_detached(Options(Path(home), int(port_base[0]) if port_base else None, int(encodes)), int(report)))
