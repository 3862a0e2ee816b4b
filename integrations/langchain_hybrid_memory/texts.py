"""What adapters make of texts: a form that can be stored, and ids that are the same each time."""

from __future__ import annotations

import json
import uuid


def storable(text: str) -> str:
    """Return a text without what no store can hold, as PDFs have it: NULs and lone surrogates."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def stable_id(*parts: object) -> str:
    """Return an id made of what it is the id of: of the same parts the same, in every process."""
    said = json.dumps(parts, default=str)
    return uuid.uuid5(uuid.NAMESPACE_URL, said).hex
