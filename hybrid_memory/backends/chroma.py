"""Keeps the vectors of documents in Chroma, embedded or on a server, one collection a namespace."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hybrid_memory.backends.heap import no_remains
from hybrid_memory.errors import (
    ClosedError,
    DimensionMismatchError,
    HybridMemoryError,
    InvalidInputError,
    MissingExtraError,
    StoreError,
    StorePathError,
    TransferError,
    VectorError,
)
from hybrid_memory.limits import MAX_LABEL_CHARS, MAX_TEXT_BYTES, to_json
from hybrid_memory.protocols import Keys, Vector
from hybrid_memory.types import Namespace

if TYPE_CHECKING:
    from chromadb.api import ClientAPI


# Of 10,000 vectors, 400 finds 94 % of the 200 nearest, 100 and 200 find 85 %, and all three take
# 3 to 5 ms.
_CONFIGURATION: Any = {"hnsw": {"space": "cosine", "ef_search": 400}}
_SEGMENT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # the folder of an index


class ChromaDocumentStore:
    """A DocumentStore in a Chroma directory (`path`), or behind any Chroma client (`client`).

    Chroma gets keys and vectors, never a text, so a deletion leaves no word behind. Its files do
    keep the vectors of what was deleted or dropped, and a vector confirms a guessed text: `purge`
    writes a new database in place of a directory's; behind a `client` it cannot. A directory
    belongs to one process; several share a server through `client=chromadb.HttpClient(...)`.
    Stores that share a Chroma database need a `prefix` each.

    Raises:
        MissingExtraError: chromadb is not installed.
        StorePathError: the path cannot hold a database.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        client: ClientAPI | None = None,
        prefix: str = "hybrid-memory",
    ) -> None:
        if (path is None) == (client is None):
            raise InvalidInputError("ChromaDocumentStore takes either a path or a client=")
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}", prefix):
            raise InvalidInputError(
                f"prefix must be 1 to 64 letters, digits, '_' and '-', not {prefix!r}"
            )
        _require("ChromaDocumentStore")
        self._prefix = prefix
        self._path = None if path is None else Path(path)
        self._purging = threading.Lock()
        self._turns = threading.Condition()
        self._users, self._is_purging = 0, False
        self._owned = client is None
        self._client: Any = _open(self._path) if self._path is not None else client
        self._where = str(path) if path is not None else _address(client)
        self._batch: int | None = None
        self._closed = False

    def position(self, namespace: Namespace) -> int:
        """Return the last `position` that was applied to this namespace, or 0."""
        with self._faults():
            collection = self._find(namespace)
            return 0 if collection is None else int(_notes(collection).get("position", 0))

    def apply(
        self,
        namespace: Namespace,
        *,
        keys: Keys,
        vectors: NDArray[np.float32],
        removed: Keys,
        position: int,
    ) -> None:
        """Add or replace (n, dim) vectors by key, remove others, then remember the position.

        Repeating a call changes nothing, so a call that broke off halfway can be repeated.

        Raises:
            DimensionMismatchError: the namespace holds vectors of another dimension.
            StoreError: Chroma failed or cannot be reached; the position has not moved.
        """
        if len(keys) and (vectors.ndim != 2 or len(vectors) != len(keys)):
            raise VectorError(f"{len(keys)} keys cannot have an array of shape {vectors.shape}")
        with self._faults():
            collection = self._find(namespace)
            if collection is None:
                collection = self._make(namespace)
            notes = dict(_notes(collection))
            if len(keys):
                self._check(notes, vectors.shape[1])
                notes["dim"] = vectors.shape[1]
            for part in self._parts(len(removed)):
                collection.delete(ids=_ids(removed[part]))
            for part in self._parts(len(keys)):
                collection.upsert(ids=_ids(keys[part]), embeddings=vectors[part])
            # Last, so that a position is never ahead of the data.
            collection.modify(metadata=notes | {"position": int(position)})

    def search(
        self, namespace: Namespace, vector: Vector, k: int
    ) -> tuple[Keys, NDArray[np.float32]]:
        """Return up to k keys and their cosines, best first."""
        nothing = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        with self._faults():
            collection = self._find(namespace)
            if collection is None or k <= 0:
                return nothing
            self._check(_notes(collection), len(vector))
            found = collection.query(
                query_embeddings=[vector], n_results=int(k), include=["distances"]
            )
        if not found["ids"][0]:
            return nothing
        cosines = 1 - np.array((found["distances"] or [[]])[0], dtype=np.float32)
        return np.array([int(id_) for id_ in found["ids"][0]], dtype=np.int64), cosines

    def cosines(self, namespace: Namespace, vector: Vector, keys: Keys) -> NDArray[np.float32]:
        """Return the (len(keys),) cosines of given keys; 0 for unknown ones."""
        cosines: dict[int, float] = {}
        wanted = np.unique(keys)
        with self._faults():
            collection = self._find(namespace)
            if collection is not None:
                self._check(_notes(collection), len(vector))
                for part in self._parts(len(wanted)):
                    found = collection.get(ids=_ids(wanted[part]), include=["embeddings"])
                    if found["ids"]:
                        products = np.asarray(found["embeddings"], dtype=np.float32) @ vector
                        cosines |= zip(map(int, found["ids"]), products.tolist(), strict=True)
        return np.array([cosines.get(int(key), 0.0) for key in keys], dtype=np.float32)

    def count(self, namespace: Namespace) -> int:
        """Return how many vectors a namespace has."""
        with self._faults():
            collection = self._find(namespace)
            return 0 if collection is None else int(collection.count())

    def drop(self, namespace: Namespace) -> None:
        """Remove all of a namespace; its position is 0 again."""
        with self._faults():
            if self._find(namespace) is not None:
                self._client.delete_collection(self._name(namespace))

    def purge(self) -> Sequence[str]:
        """See `DocumentStore.purge`: copies what is left into a new database, and takes that.

        Chroma has no other way: it keeps deleted vectors in its SQLite file and in its indexes.
        Killed halfway, it leaves the old database, or none, which is filled from the records.
        """
        if self._path is None:
            return (
                f"Chroma at {self._where} keeps the vectors of what was deleted: to be rid of "
                "them delete its data while it is stopped; it is filled again from the records",
            )
        with self._faults(alone=True):
            names = [one.name for one in self._client.list_collections()]
            mine = re.compile(re.escape(self._prefix) + "-[0-9a-f]{40}")
            if foreign := [name for name in names if not mine.fullmatch(name)]:
                return (
                    f"Chroma at {self._where} has {len(foreign)} collections of others, so its "
                    "files cannot be written anew and keep the vectors of what was deleted; give "
                    "documents a directory of their own",
                )
            self._rewrite(self._path, names)
        return ()

    def _rewrite(self, path: Path, names: Sequence[str]) -> None:
        new = path.with_name(f"{path.name}.purging")
        _remove_database(new)  # of a purge that was killed
        copy: Any = _open(new)
        try:
            for name in names:
                self._copy(name, copy)
        finally:
            copy.close()
        self._client.close()
        try:
            _remove_database(path)
            for part in list(new.iterdir()):
                part.rename(path / part.name)
            new.rmdir()
        finally:
            self._client = _open(path)

    def _copy(self, name: str, client: Any) -> None:
        source = self._client.get_collection(name, embedding_function=None)
        target = client.create_collection(
            name, embedding_function=None, configuration=_CONFIGURATION
        )
        for start in range(0, source.count(), _PAGE):
            page = source.get(limit=_PAGE, offset=start, include=["embeddings"])
            target.upsert(ids=page["ids"], embeddings=page["embeddings"])
        # Last, so that a position is never ahead of the data.
        target.modify(metadata=dict(_notes(source)))

    def files(self) -> list[Path]:
        """Return the files of the directory; of a client there are none that are known."""
        if self._path is None:
            return []
        return sorted(path for path in self._path.rglob("*") if path.is_file())

    def close(self) -> None:
        """Release a database opened by path; a client that was passed in is left open."""
        if self._owned and not self._closed and hasattr(self._client, "close"):
            self._client.close()
        self._closed = True

    def _name(self, namespace: Namespace) -> str:
        # A hash, because Chroma allows few characters in names, and labels may be personal.
        labels = to_json(list(namespace)).encode()
        return f"{self._prefix}-{hashlib.blake2b(labels, digest_size=20).hexdigest()}"

    def _find(self, namespace: Namespace) -> Any:
        from chromadb.errors import NotFoundError

        try:
            # None, because Chroma's default embedding function downloads a model.
            return self._client.get_collection(self._name(namespace), embedding_function=None)
        except NotFoundError:
            return None

    def _make(self, namespace: Namespace) -> Any:
        return self._client.get_or_create_collection(
            self._name(namespace),
            embedding_function=None,
            configuration=_CONFIGURATION,
        )

    def _check(self, notes: Mapping[str, Any], dim: int) -> None:
        if notes.get("dim", dim) != dim:
            raise DimensionMismatchError(
                f"Chroma at {self._where} holds vectors of {notes['dim']} dimensions, not {dim}; "
                "drop the namespace to fill it anew"
            )

    def _parts(self, count: int) -> Iterator[slice]:
        if self._batch is None:
            self._batch = int(self._client.get_max_batch_size())
        for start in range(0, count, self._batch):
            yield slice(start, start + self._batch)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep the client to oneself."""
        with self._purging, self._turns:
            self._is_purging = True
            try:
                self._turns.wait_for(lambda: not self._users)
                yield
            finally:
                self._is_purging = False
                self._turns.notify_all()

    @contextmanager
    def _shared(self) -> Iterator[None]:
        """Use the client beside others, but not while it is changed."""
        with self._turns:
            self._turns.wait_for(lambda: not self._is_purging)
            self._users += 1
        try:
            yield
        finally:
            with self._turns:
                self._users -= 1
                self._turns.notify_all()

    @contextmanager
    def _faults(self, *, alone: bool = False) -> Iterator[None]:
        if self._closed:
            raise ClosedError(f"the Chroma store at {self._where} was closed")
        try:
            # Its indexes are written with room to grow, which holds what the memory held before,
            # deleted vectors too.
            with self._alone() if alone else self._shared(), no_remains():
                yield
        except HybridMemoryError:
            raise
        except Exception as error:
            # Chroma lets ValueError, its HTTP library's and its own errors through.
            raise StoreError(
                f"Chroma at {self._where} failed or cannot be reached ({type(error).__name__}); "
                "check that it runs and has space left"
            ) from error


def items(
    path: Path | str | None = None,
    *,
    client: ClientAPI | None = None,
    collection: str | None = None,
) -> Iterator[tuple[Namespace | None, dict[str, Any]]]:
    """Yield the documents of a Chroma collection as items of `add_many`, of no namespace.

    `collection` may be left out where there is one only. The id is kept, and the metadata; a
    `source` in it becomes the source, else the name of the collection is. A text above the bound
    of a record is cut. Vectors are of another space and are not read.

    Raises:
        MissingExtraError: chromadb is not installed.
        TransferError: no such database or collection, or one without texts.
    """
    if (path is None) == (client is None):
        raise InvalidInputError("chroma.items takes either a path or a client=")
    _require("an import from Chroma")
    if path is not None and not (Path(path) / "chroma.sqlite3").is_file():
        raise TransferError(f"there is no Chroma database at {path}")
    opened: Any = _open(Path(path)) if path is not None else client
    try:
        found = _collection(opened, collection)
        for start in range(0, found.count(), _PAGE):
            page = found.get(limit=_PAGE, offset=start, include=["documents", "metadatas"])
            texts = page["documents"] or [None] * len(page["ids"])
            notes = page["metadatas"] or [None] * len(page["ids"])
            for id_, text, metadata in zip(page["ids"], texts, notes, strict=True):
                if not text or not text.strip():
                    raise TransferError(
                        f"collection {found.name!r} has no text for the id {id_!r}, only a vector"
                    )
                for item in _items(id_, text, dict(metadata or {}), found.name):
                    yield None, item
    finally:
        if path is not None and hasattr(opened, "close"):
            opened.close()


_PAGE = 500


def _collection(client: Any, name: str | None) -> Any:
    names = sorted(one.name for one in client.list_collections())
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        wanted = "name one" if name is None else f"none is {name!r}"
        raise TransferError(f"Chroma has the collections {', '.join(names) or '(none)'}; {wanted}")
    # None, because Chroma's default embedding function downloads a model.
    return client.get_collection(name, embedding_function=None)


def _items(
    id_: str, text: str, metadata: dict[str, Any], collection: str
) -> Iterator[dict[str, Any]]:
    named = metadata.get("source")
    source = named if isinstance(named, str) and 0 < len(named) <= MAX_LABEL_CHARS else collection
    for number, part in enumerate(_parts(text), 1):
        yield {
            "id": id_ if number == 1 else f"{id_}#{number}",
            "text": part,
            "kind": "document",
            "source": source,
            "metadata": metadata,
        }


def _parts(text: str) -> Iterator[str]:
    while len(text.encode()) > MAX_TEXT_BYTES:
        size = MAX_TEXT_BYTES // 4  # the most bytes that a character has
        ends = (text.rfind("\n", 1, size), text.rfind(" ", 1, size), size)
        cut = next(end for end in ends if end > 0)
        if text[:cut].strip():
            yield text[:cut]
        text = text[cut:]
    if text.strip():
        yield text


def _require(what: str) -> None:
    if find_spec("chromadb") is None:
        raise MissingExtraError(
            f'{what} needs chromadb: pip install ".[chroma]" in a checkout of hybrid-rag-memory'
        )


def _open(path: Path) -> ClientAPI:
    import chromadb
    from chromadb.config import Settings

    if path.exists() and not path.is_dir():
        raise StorePathError(f"{path} is a file; a Chroma database is a directory")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return chromadb.PersistentClient(
            path=str(path), settings=Settings(anonymized_telemetry=False)
        )
    except OSError as error:
        raise StorePathError(f"cannot make {path}: {error.strerror}") from error
    except Exception as error:
        raise StorePathError(
            f"Chroma cannot open {path} ({type(error).__name__}: {error}); "
            "pass client= if this process has it open already"
        ) from error


def _remove_database(path: Path) -> None:
    """Remove what Chroma wrote into a directory, and nothing else."""
    for part in list(path.iterdir()) if path.is_dir() else ():
        if part.is_dir() and _SEGMENT.fullmatch(part.name):
            shutil.rmtree(part)
        elif part.name.startswith("chroma.sqlite3"):
            part.unlink()


def _address(client: Any) -> str:
    settings = client.get_settings()
    if settings.chroma_server_host is None:
        return str(settings.persist_directory) if settings.is_persistent else "memory"
    return f"{settings.chroma_server_host}:{settings.chroma_server_http_port}"


def _notes(collection: Any) -> Mapping[str, Any]:
    notes: Mapping[str, Any] | None = collection.metadata
    return notes or {}


def _ids(keys: Keys) -> list[str]:
    return [str(key) for key in keys.tolist()]
