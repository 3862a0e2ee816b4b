"""The suite of DocumentStore on every implementation, and what is particular to Chroma."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import chromadb
import numpy as np
import pytest

from hybrid_memory.backends.chroma import ChromaDocumentStore
from hybrid_memory.errors import (
    ClosedError,
    InvalidInputError,
    MissingExtraError,
    StoreError,
    StorePathError,
    VectorError,
)
from hybrid_memory.protocols import DocumentStore
from hybrid_memory.testing import DocumentStoreSuite, MemoryDocumentStore
from hybrid_memory.testing.document_stores import ANA, DIM, NO_VECTORS, NONE
from tests.chroma_server import running_chroma


class TestMemoryDocumentStore(DocumentStoreSuite):
    recall = 1.0

    @pytest.fixture
    def store(self) -> DocumentStore:
        return MemoryDocumentStore()


class TestChromaDocumentStore(DocumentStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[DocumentStore]:
        store = ChromaDocumentStore(tmp_path / "chroma")
        yield store
        store.close()


@pytest.mark.server
class TestChromaServer(DocumentStoreSuite):
    @pytest.fixture
    def store(self, chroma_server: int) -> Iterator[DocumentStore]:
        client = chromadb.HttpClient(host="127.0.0.1", port=chroma_server)
        for collection in client.list_collections():
            client.delete_collection(collection.name)
        yield ChromaDocumentStore(client=client)
        client.close()


def units(count: int, *, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fill(store: DocumentStore, count: int, *, position: int = 1) -> np.ndarray:
    vectors = units(count)
    keys = np.arange(count, dtype=np.int64)
    store.apply(ANA, keys=keys, vectors=vectors, removed=NONE, position=position)
    return vectors


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    store = ChromaDocumentStore(tmp_path / "chroma")
    vectors = fill(store, 20, position=8)
    store.close()

    again = ChromaDocumentStore(str(tmp_path / "chroma"))

    assert again.position(ANA) == 8
    assert again.search(ANA, vectors[3], 1)[0].tolist() == [3]
    again.close()


def test_a_large_call_is_cut_into_the_batches_that_chroma_takes(tmp_path: Path) -> None:
    client = chromadb.PersistentClient(tmp_path / "chroma")
    store = ChromaDocumentStore(client=client)
    limit = client.get_max_batch_size()

    vectors = fill(store, limit + 10)
    keys = np.arange(limit + 10, dtype=np.int64)
    found = store.cosines(ANA, vectors[-1], keys)
    store.apply(ANA, keys=NONE, vectors=NO_VECTORS, removed=keys[1:], position=2)

    assert len(found) == limit + 10
    assert found[-1] == pytest.approx(1, abs=1e-5)
    assert store.search(ANA, vectors[0], 5)[0].tolist() == [0]
    client.close()


def test_the_position_stays_when_the_data_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chromadb.api.models.Collection import Collection

    store = ChromaDocumentStore(tmp_path / "chroma")
    fill(store, 5, position=4)

    def fail(*args: object, **options: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(Collection, "upsert", fail)
        with pytest.raises(StoreError, match=str(tmp_path)):
            fill(store, 9, position=5)

    assert store.position(ANA) == 4
    fill(store, 9, position=5)
    assert store.position(ANA) == 5
    store.close()


def test_neither_texts_nor_names_reach_chroma(tmp_path: Path) -> None:
    client = chromadb.PersistentClient(tmp_path / "chroma")
    store = ChromaDocumentStore(client=client)
    namespace = ("canary-user-2718", "canary-team")
    keys = np.array([5], dtype=np.int64)
    store.apply(namespace, keys=keys, vectors=units(1), removed=NONE, position=1)
    (collection,) = client.list_collections()

    assert collection.get(include=["documents", "metadatas"])["documents"] == [None]
    assert "canary" not in json.dumps([collection.name, collection.metadata])
    client.close()
    for path in (tmp_path / "chroma").rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes()


def test_the_directory_is_the_owners(tmp_path: Path) -> None:
    store = ChromaDocumentStore(tmp_path / "chroma")

    assert (tmp_path / "chroma").stat().st_mode & 0o077 == 0
    store.close()


def test_stores_with_another_prefix_do_not_meet(tmp_path: Path) -> None:
    client = chromadb.PersistentClient(tmp_path / "chroma")
    one, two = (ChromaDocumentStore(client=client, prefix=prefix) for prefix in ("one", "two"))
    fill(one, 3, position=9)

    assert two.position(ANA) == 0
    two.drop(ANA)
    assert one.position(ANA) == 9
    client.close()


def test_a_client_that_was_passed_in_is_left_open(tmp_path: Path) -> None:
    client = chromadb.PersistentClient(tmp_path / "chroma")
    store = ChromaDocumentStore(client=client)
    fill(store, 3)
    store.close()

    assert len(client.list_collections()) == 1
    with pytest.raises(ClosedError):
        store.position(ANA)
    client.close()


def test_keys_and_vectors_must_fit(tmp_path: Path) -> None:
    store = ChromaDocumentStore(tmp_path / "chroma")

    with pytest.raises(VectorError):
        store.apply(
            ANA, keys=np.arange(3, dtype=np.int64), vectors=units(2), removed=NONE, position=1
        )
    store.close()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(StorePathError, match="file"):
        ChromaDocumentStore(tmp_path / "file")
    with pytest.raises(StorePathError, match="cannot make"):
        ChromaDocumentStore(tmp_path / "file" / "below")


def test_a_path_that_is_open_otherwise_is_refused(tmp_path: Path) -> None:
    client = chromadb.PersistentClient(tmp_path / "chroma")

    with pytest.raises(StorePathError, match="client="):
        ChromaDocumentStore(tmp_path / "chroma")
    client.close()


def test_either_a_path_or_a_client_is_given(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        ChromaDocumentStore()
    with pytest.raises(InvalidInputError, match="prefix"):
        ChromaDocumentStore(tmp_path, prefix="a/b")


def test_without_the_library_the_pip_line_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "chromadb", None)

    with pytest.raises(MissingExtraError, match=r'pip install "\.\[chroma\]"'):
        ChromaDocumentStore(tmp_path / "chroma")


@pytest.mark.server
def test_a_server_that_went_away_is_named(tmp_path: Path) -> None:
    with running_chroma(tmp_path) as (port, server):
        client = chromadb.HttpClient(host="127.0.0.1", port=port)
        store = ChromaDocumentStore(client=client)
        fill(store, 3, position=2)
        server.kill()
        server.wait(10)

    for call in (
        lambda: store.position(ANA),
        lambda: fill(store, 4),
        lambda: store.search(ANA, units(1)[0], 3),
        lambda: store.cosines(ANA, units(1)[0], NONE),
        lambda: store.drop(ANA),
    ):
        with pytest.raises(StoreError, match=f"127.0.0.1:{port}"):
            call()
    client.close()
