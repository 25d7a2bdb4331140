"""Benchmarks against the peers, in one run: ``python -m tests.benchmarks.download --help``.

They are no tests: nothing fails here. ``docs/benchmarks.md`` has the figures and what they mean.
"""
