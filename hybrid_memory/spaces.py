"""What a vector space is known by: its name, its dimension, and what it makes of eight sentences.

A name says what somebody believes an embedder to be; vectors say what it is. Another revision of a
model, another pooling or a prompt moves them, whatever the name.
"""

from __future__ import annotations

import numpy as np

from hybrid_memory.errors import EmbedderMismatchError
from hybrid_memory.limits import unit_vectors
from hybrid_memory.protocols import Embedder, Space

# Registers, languages, scripts and lengths, since models part ways in what they know least. They
# are stored with each space: to change one of them would be to take every store for a stranger.
# Short, because each process encodes them once: a text of 300 words beside them took five times as
# long.
PROBES = (
    "tea",
    "Where did I leave the keys?",
    "My daughter plays the violin on Thursdays, and when it rains I drive her to Lyon.",
    "return sum(values) / len(values)",
    "Am 3. Mai wurde der Mietvertrag unterschrieben.",
    "昨日の会議は三時に始まりました。",
    "lol no way!!! u serious?? gonna call u l8r",
    "The lessee shall keep the premises in good repair and, within thirty days of a written "
    "notice, make good whatever damage was done.",
)
# One model in float32 and bfloat16, on PyTorch and in 8 bits on ONNX Runtime: 0.9997 and more, each
# probe. A prompt of one word put before the probes, on the same model: 0.73 to 0.97; activations of
# 8 bits: 0.89 to 0.96; another pooling: 0.26 to 0.74.
SAME = 0.99


def space_of(embedder: Embedder) -> Space:
    """Return the space of an embedder, which encodes the probes for it.

    Raises:
        VectorError: it gave something else than finite vectors of its dimension.
    """
    probes = unit_vectors(embedder.embed(list(PROBES)), count=len(PROBES), dim=embedder.dim)
    return Space(embedder.name, embedder.dim, probes.tobytes())


def is_same(space: Space, other: Space) -> bool:
    """Tell whether vectors of both can be compared; of a space without probes nobody knows."""
    if (space.name, space.dim) != (other.name, other.dim) or not space.probes or not other.probes:
        return False
    here, there = (np.frombuffer(one.probes or b"", np.float32) for one in (space, other))
    if here.shape != there.shape or here.size != len(PROBES) * space.dim:
        return False
    with np.errstate(all="ignore"):  # of a file they may be any numbers
        cosines = np.vecdot(here.reshape(-1, space.dim), there.reshape(-1, space.dim))
    return bool((cosines >= SAME).all())


def refuse_other_name(space: Space, embedder: Embedder | Space) -> None:
    """Raise EmbedderMismatchError if the store says to be of another embedder."""
    if (space.name, space.dim) != (embedder.name, embedder.dim):
        raise EmbedderMismatchError(
            f"the store was written with {space.name} ({space.dim} dimensions), the embedder is "
            f"{embedder.name} ({embedder.dim}); open it with the former, or {WAY_OUT}"
        )


def refuse_other_vectors(space: Space, mine: Space) -> None:
    """Raise EmbedderMismatchError if the embedder is another one, by name or by its vectors."""
    refuse_other_name(space, mine)
    if space.probes and not is_same(space, mine):
        raise other_vectors(mine)


def other_vectors(embedder: Embedder | Space) -> EmbedderMismatchError:
    """Return the error for an embedder that has the name of the store's, and is another one."""
    return EmbedderMismatchError(
        f"the embedder is called {embedder.name}, as the one the store was written with, and "
        "gives other vectors: another revision, pooling or prompt; open the store with the "
        f"former, or {WAY_OUT}"
    )


WAY_OUT = (
    "move the store to this one: memory.reembed(embedder) on a memory that is open, "
    "HybridMemory.open(..., reembed=True), or hybrid-memory reembed for the bundled model"
)
