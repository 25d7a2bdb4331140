"""``python -m headrace.cli`` is the same command as ``headrace``."""

from headrace.cli import main

main()
