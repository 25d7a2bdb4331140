"""The stages as Prefect tasks: each calls the engine and writes what came of it to the catalogue.

1. A task is a few lines around one stage; what it knows it reads from rows and scratch, so
   it can be run again after any crash.
2. Every write checks the claim's fence.
3. Prefect retries a task only where the error says that it can help (``policy``).
"""
