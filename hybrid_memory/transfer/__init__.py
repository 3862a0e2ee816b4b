"""Ways out and in: records as JSON Lines, and what other libraries remembered, into a store."""

from hybrid_memory.transfer.loading import load
from hybrid_memory.transfer.saving import save

__all__ = ["load", "save"]
