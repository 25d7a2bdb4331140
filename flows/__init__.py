"""The flows: the story of the data's way, on one screen each.

``ingest_order`` plans bundles; ``ingest_bundle`` downloads, identifies and stores;
``transcode_asset`` transcodes, packages and publishes; ``watch_feed`` looks for new
things; ``reconcile`` puts right whatever a crash left behind. ``submit`` is the one place
that starts runs.

Postgres is the truth: a flow begins by reading rows and claiming a lease, so it may be
started twice, or again after a kill, without harm.
"""
