"""This library and three common stacks behind one face, each used as its documentation shows.

What a stack acknowledges is what its call returned from; what has to be called to keep something
(LangChain's `save_local`) is called before that.
"""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hybrid_memory import HybridMemory
from hybrid_memory.protocols import Embedder


class Stack(Protocol):
    """A store of texts of users, opened with a directory and an embedder."""

    def __init__(self, path: Path, embedder: Embedder) -> None: ...

    def add(self, user: str, texts: Sequence[str]) -> None:
        """Keep texts; they are acknowledged when this returns."""

    def search(self, user: str, query: str, k: int) -> list[str]:
        """Return the nearest texts of a user."""

    def texts(self) -> list[str]:
        """Return all texts there are."""

    def erase(self, user: str) -> None:
        """Delete all of a user, as thoroughly as the stack can."""

    def notices(self) -> bool:
        """Tell whether the stack itself knows that something is wrong with its files."""

    def close(self) -> None:
        """Release the files."""


class Ours:
    """This library."""

    def __init__(self, path: Path, embedder: Embedder) -> None:
        self._memory = HybridMemory.open(path, embedder=embedder)

    def add(self, user: str, texts: Sequence[str]) -> None:
        self._memory.scope(user_id=user).add_many(texts)

    def search(self, user: str, query: str, k: int) -> list[str]:
        return [hit.record.text for hit in self._memory.scope(user_id=user).search(query, k=k)]

    def texts(self) -> list[str]:
        names = self._memory._store.namespaces()
        scopes = [self._memory.scope(namespace=name) for name in names]
        return [turn.text for scope in scopes for turn in scope.messages()]

    def erase(self, user: str) -> None:
        self._memory.scope(user_id=user).erase()

    def notices(self) -> bool:
        return not self._memory.check().is_clean

    def close(self) -> None:
        self._memory.close()


class InMemory:
    """The pattern of many tutorials: a FAISS index and a list in RAM, SQLite without a commit."""

    def __init__(self, path: Path, embedder: Embedder) -> None:
        import faiss
        from sqlalchemy import Column, MetaData, String, Table, create_engine

        path.mkdir(parents=True, exist_ok=True)
        self._embedder = embedder
        self._index = faiss.IndexFlatL2(embedder.dim)
        self._kept: list[tuple[str, str]] = []
        self._engine = create_engine(f"sqlite:///{path / 'memory.db'}")
        meta = MetaData()
        self._table = Table(
            "long_term", meta, Column("key", String, primary_key=True), Column("value", String)
        )
        meta.create_all(self._engine)

    def add(self, user: str, texts: Sequence[str]) -> None:
        self._index.add(np.asarray(self._embedder.embed(texts), np.float32))
        self._kept += [(user, text) for text in texts]
        for text in texts:
            row = {"key": uuid.uuid4().hex, "value": json.dumps([user, text])}
            with self._engine.connect() as connection:  # and no commit
                connection.execute(self._table.insert().values(**row))

    def search(self, user: str, query: str, k: int) -> list[str]:
        vector = np.asarray(self._embedder.embed([query]), np.float32)
        _, rows = self._index.search(vector, k)
        near = [self._kept[row] for row in rows[0] if 0 <= row < len(self._kept)]
        return [text for owner, text in near if owner == user]

    def texts(self) -> list[str]:
        with self._engine.connect() as connection:
            values = connection.execute(self._table.select()).scalars(1).all()
        return [text for _, text in self._kept] + [json.loads(value)[1] for value in values]

    def erase(self, user: str) -> None:
        raise NotImplementedError("the pattern has no way to delete")

    def notices(self) -> bool:
        return False

    def close(self) -> None:
        self._engine.dispose()


class LangChainFaiss:
    """The FAISS store of langchain-community, saved after each add."""

    def __init__(self, path: Path, embedder: Embedder) -> None:
        import faiss

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from langchain_community.docstore.in_memory import InMemoryDocstore
            from langchain_community.vectorstores import FAISS

        self._path = path
        face = _langchain_embeddings(embedder)
        if (path / "index.faiss").exists():
            self._store = FAISS.load_local(str(path), face, allow_dangerous_deserialization=True)
        else:
            index = faiss.IndexFlatL2(embedder.dim)
            self._store = FAISS(face, index, InMemoryDocstore(), {})

    def add(self, user: str, texts: Sequence[str]) -> None:
        self._store.add_texts(texts, metadatas=[{"user": user} for _ in texts])
        self._store.save_local(str(self._path))

    def search(self, user: str, query: str, k: int) -> list[str]:
        found = self._store.similarity_search(query, k=k, filter={"user": user})
        return [document.page_content for document in found]

    def texts(self) -> list[str]:
        ids = list(self._store.index_to_docstore_id.values())
        return [document.page_content for document in self._store.get_by_ids(ids)]

    def erase(self, user: str) -> None:
        found = self._store.get_by_ids(list(self._store.index_to_docstore_id.values()))
        self._store.delete([one.id for one in found if one.metadata["user"] == user])
        self._store.save_local(str(self._path))

    def notices(self) -> bool:
        return False

    def close(self) -> None:
        pass


def _langchain_embeddings(embedder: Embedder) -> Any:
    from langchain_core.embeddings import Embeddings

    class Face(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [list(map(float, row)) for row in embedder.embed(texts)]

        def embed_query(self, text: str) -> list[float]:
            return list(map(float, embedder.embed_query(text)))

    return Face()


class Chroma:
    """A persistent Chroma collection, filtered by metadata."""

    def __init__(self, path: Path, embedder: Embedder) -> None:
        import chromadb
        from chromadb.config import Settings

        self._client = chromadb.PersistentClient(path, Settings(anonymized_telemetry=False))
        self._texts = self._client.get_or_create_collection("memory", embedding_function=None)
        self._embedder = embedder

    def add(self, user: str, texts: Sequence[str]) -> None:
        self._texts.add(
            ids=[uuid.uuid4().hex for _ in texts],
            embeddings=[list(map(float, row)) for row in self._embedder.embed(texts)],
            documents=list(texts),
            metadatas=[{"user": user} for _ in texts],
        )

    def search(self, user: str, query: str, k: int) -> list[str]:
        vector = list(map(float, self._embedder.embed_query(query)))
        found = self._texts.query(query_embeddings=[vector], n_results=k, where={"user": user})
        return list(found["documents"][0])

    def texts(self) -> list[str]:
        # Through the index as well: what is only in the table is not found by anybody.
        stored = list(self._texts.get()["documents"])
        if not stored:
            return []
        vector = [1.0] * self._embedder.dim
        found = self._texts.query(query_embeddings=[vector], n_results=len(stored))
        return list(found["documents"][0])

    def erase(self, user: str) -> None:
        self._texts.delete(where={"user": user})

    def notices(self) -> bool:
        return False

    def close(self) -> None:
        self._client.close()


_ALL: Mapping[str, tuple[type[Stack], str]] = {
    "hybrid-memory": (Ours, "numpy"),
    "FAISS + list + SQLite": (InMemory, "faiss"),
    "LangChain FAISS": (LangChainFaiss, "langchain_community"),
    "Chroma": (Chroma, "chromadb"),
}


def stacks() -> dict[str, type[Stack]]:
    """Return the stacks that are installed, by name, this library first."""
    return {name: stack for name, (stack, needs) in _ALL.items() if find_spec(needs)}
