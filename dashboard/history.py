"""An asset's events as sentences. Pure."""

from __future__ import annotations

from typing import Any

from dashboard.words import plain, reason, size

SENTENCES = {
    "asset.created": "First seen",
    "master.stored": "The original is in the archive",
    "master.repaired": "The original in the archive was repaired",
    "entry.created": "Came into the library",
    "entry.deleted": "Removed from the library",
    "entry.restored": "Brought back into the library",
    "publication.live": "The streams are online",
    "publication.failed": "Publishing failed",
    "publication.retired": "The streams were taken offline",
    "item.queued": "An item waits for it",
    "item.downloading": "An item downloads",
    "item.storing": "An item goes into the archive",
    "item.transcoding": "An item waits for its streams",
    "item.publishing": "An item's streams are uploaded",
    "item.published": "An item is published",
    "item.stored": "An item is stored",
    "item.failed": "An item failed",
    "item.cancelled": "An item was cancelled",
}
"""Kind of event → what happened; a kind that is not here is shown by its name."""


def sentence(event: dict[str, Any]) -> str:
    """Return what happened, with the numbers that matter, as harmless Markdown."""
    words = [SENTENCES.get(event["kind"]) or plain(event["kind"])]
    if event.get("title"):
        words.append(f"as {plain(event['title'], 80)}")
    if event.get("stored_bytes") is not None:
        words.append(f"{size(event['stored_bytes'])}, {plain(event.get('encoding'))}")
    elif event.get("size_bytes") is not None:
        words.append(size(event["size_bytes"]))
    if event.get("renditions") is not None:
        words.append(f"{plain(event['renditions'])} renditions")
    if event.get("proofs"):
        words.append("checked by " + plain(", ".join(str(proof) for proof in event["proofs"])))
    if isinstance(event.get("error"), dict):
        words.append(reason(event["error"]))
    return " · ".join(words)
