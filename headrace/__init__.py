"""The engine of Headrace: everything that would be true without Prefect.

The map, in the order in which the bytes travel:

==================  =========================================================
``source``          parse and classify what a user typed (pure)
``download``        bytes from a hostile source into a file, resumable, proven
``hosts``           what one host may be asked by all downloads together
``objects``         S3 as a source: signed addresses, and what it promises
``identify``        digests, ``probe()`` and the pure ``parse_probe()``
``vault``           the master archive: dedup, compression, verified reads
``transcode``       ladder, argv and plan (pure), then one encode
``package``         CMAF, HLS and DASH through Shaka Packager
``publish``         keys, order (manifests last), verification
``stores``          the object-store protocol and its implementations
``catalogue``       Postgres: every table, every statement, every state change
``stack``           the embedded stack behind ``headrace up``
``cli``             the command line, loaded lazily
==================  =========================================================

Beside them: ``digests``, ``model`` (frozen values that travel between stages), ``recipe``
(what is to be made), ``errors`` (the error tree), ``settings`` (the only
reader of our part of the environment), ``credentials`` (the operator's logins for
sources, by name), ``process`` (the only door to subprocesses) and
``wiring`` (settings become concrete stores and a catalogue).

Stage modules import ``model``, ``errors``, ``process`` and the protocols, and
never each other; import-linter holds them to it.
"""

__version__ = "0.1.0"
