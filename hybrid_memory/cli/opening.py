"""The store that a command works on, opened and closed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_memory.errors import StorePathError

if TYPE_CHECKING:
    from hybrid_memory import HybridMemory, Scope
    from hybrid_memory.protocols import ChatModel, DocumentStore, RecordStore


@contextmanager
def opened_scope(
    store: Path,
    user: str,
    session: str | None = None,
    read: Sequence[str] | None = None,
    *,
    create: bool = False,
    llm: ChatModel | None = None,
) -> Iterator[Scope]:
    """Open the store for a user."""
    with opened_memory(store, create=create, llm=llm) as memory:
        yield memory.scope(user_id=user, session_id=session, read=[(name,) for name in read or ()])


@contextmanager
def opened_memory(
    store: Path, *, create: bool = False, llm: ChatModel | None = None
) -> Iterator[HybridMemory]:
    """Open the store; only `create` makes one, so that a misspelt path is noticed."""
    from hybrid_memory import HybridMemory

    if not create:
        _check_there(store)
    with HybridMemory.open(store, llm=llm) as memory:
        yield memory


@contextmanager
def opened_store(store: Path) -> Iterator[RecordStore]:
    """Open the records alone: a way out needs no model, whichever they were written with."""
    from hybrid_memory.backends.sql import SQLRecordStore

    _check_there(store)
    opened = SQLRecordStore.open(store)
    try:
        yield opened
    finally:
        opened.close()


def _check_there(store: Path) -> None:
    from hybrid_memory.backends.sql.connections import FILE_NAME

    if not store.is_file() and not (store / FILE_NAME).exists():
        raise StorePathError(
            f"there is no store at {store}; name one with --store or HYBRID_MEMORY_STORE, "
            "or make it with hybrid-memory add"
        )


@contextmanager
def opened_documents(path: Path | None) -> Iterator[DocumentStore | None]:
    if path is None:
        yield None
        return
    from hybrid_memory.backends.chroma import ChromaDocumentStore

    if not path.is_dir():
        raise StorePathError(f"there is no Chroma database at {path}")
    documents = ChromaDocumentStore(path)
    try:
        yield documents
    finally:
        documents.close()
