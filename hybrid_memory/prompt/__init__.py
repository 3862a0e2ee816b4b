"""Read path, stage 5: through the gate, into the token budget, into the prompt."""

from hybrid_memory.prompt.context import Block, Context, Dropped, LeftOut, closed
from hybrid_memory.prompt.echo import without_memory, without_memory_message
from hybrid_memory.prompt.packing import pack
from hybrid_memory.prompt.rendering import clean

__all__ = [
    "Block",
    "Context",
    "Dropped",
    "LeftOut",
    "clean",
    "closed",
    "pack",
    "without_memory",
    "without_memory_message",
]
