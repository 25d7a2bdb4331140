"""The gateway: the only door for people and machines from outside.

1. Every call under ``/v1`` and ``/metrics`` needs the bearer token; ``/watch`` and ``/media``
   need a signed link. Only ``/healthz`` and the player's own files are open.
2. An error is a problem document (RFC 9457) with the engine's ``code``, ``retryable`` and ``hint``.
3. An order is committed before it is acknowledged; its run is started afterwards, and if
   Prefect is away the order waits.
4. Calls that block run in a bounded thread pool; bytes are streamed, never held.
"""
