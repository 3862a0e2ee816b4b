"""Ways in from LangChain's stock retrievers, and from a FAISS folder without unpickling it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import faiss
import pytest
from langchain_classic.retrievers import EnsembleRetriever, TimeWeightedVectorStoreRetriever
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_hybrid_memory import HybridEmbeddings, HybridRetriever, HybridVectorStore
from langchain_hybrid_memory.migrate import (
    faiss_documents,
    from_ensemble,
    from_time_weighted,
    time_weights,
)

from hybrid_memory import HybridMemory
from hybrid_memory.errors import TransferError
from hybrid_memory.testing import HashEmbedder

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
HASHED = HybridEmbeddings(HashEmbedder())


class Fixed(BaseRetriever):
    documents: list[Document] = []  # noqa: RUF012

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return self.documents


def test_an_ensemble_becomes_a_retriever_with_its_weights_and_key() -> None:
    parts = [Document(page_content=f"part {i}", metadata={"doc": i % 2}) for i in range(4)]
    ensemble = EnsembleRetriever(
        retrievers=[Fixed(documents=parts), Fixed(documents=parts[::-1]), Fixed(documents=parts)],
        weights=[0.1, 0.9, 0],
        id_key="doc",
    )

    ours = from_ensemble(ensemble, k=1)

    assert {one.page_content for one in ensemble.invoke("x")} == {"part 0", "part 1"}
    assert [one.metadata["doc"] for one in ours.invoke("x")] == [1]
    assert len(ours.invoke("x", k=5)) == 2


# -- TimeWeightedVectorStoreRetriever ----------------------------------------------------------


@pytest.fixture
def stock() -> Iterator[TimeWeightedVectorStoreRetriever]:
    with HybridVectorStore.open(None, HASHED) as store:
        retriever = TimeWeightedVectorStoreRetriever(vectorstore=store, decay_rate=0.01)
        retriever.add_documents(
            [
                Document(
                    page_content="Moved to Lyon.",
                    metadata={"created_at": NOW - timedelta(days=9), "city": "Lyon"},
                ),
                Document(page_content="Bought a boat.", metadata={"importance": 0.9}),
            ]
        )
        yield retriever


def test_what_a_time_weighted_retriever_holds_becomes_events_of_their_time(
    stock: TimeWeightedVectorStoreRetriever, memory: HybridMemory
) -> None:
    ana = memory.scope(user_id="ana")

    moved, bought = from_time_weighted(stock, ana)
    again = from_time_weighted(stock, ana)

    assert [record.id for record in again] == [moved.id, bought.id]
    assert ana.stats().records["event"] == 2
    assert (moved.kind, moved.at, moved.metadata) == (
        "event",
        NOW - timedelta(days=9),
        {"city": "Lyon"},
    )
    assert bought.importance == 0.9
    assert bought.at == stock.memory_stream[1].metadata["created_at"].astimezone(UTC)
    [found] = HybridRetriever(memory=memory, user_id="ana").invoke("Lyon", k=1)
    assert found.page_content == "Moved to Lyon."


def test_after_a_restart_there_is_nothing_to_migrate_and_it_says_so(
    stock: TimeWeightedVectorStoreRetriever, memory: HybridMemory
) -> None:
    restarted = TimeWeightedVectorStoreRetriever(vectorstore=stock.vectorstore)

    with pytest.raises(TransferError, match="in the process that added"):
        from_time_weighted(restarted, memory.scope(user_id="ana"))


@pytest.mark.parametrize(("rate", "days"), [(0.01, 2.874), (0.5, 1 / 24), (1.0, 1e-3)])
def test_the_half_life_is_that_of_the_decay_rate(
    stock: TimeWeightedVectorStoreRetriever, rate: float, days: float
) -> None:
    stock.decay_rate = rate

    assert time_weights(stock).half_life_days == pytest.approx(days, rel=1e-3)
    assert time_weights(stock).recency == 1
    stock.decay_rate = 0
    assert time_weights(stock).recency == 0


# -- a folder of FAISS ---------------------------------------------------------------------------


class InMemoryDocstore:
    """As langchain_community has it."""

    def __init__(self, documents: dict[str, Document]) -> None:
        self._dict = documents


def folder(
    path: Path,
    documents: list[Document],
    *,
    package: str = "langchain_community",
    protocol: int = pickle.DEFAULT_PROTOCOL,
) -> Path:
    """Write what `FAISS.save_local` writes, by the same calls."""
    modules = [package, f"{package}.docstore", f"{package}.docstore.in_memory"]
    saved = {name: sys.modules.get(name) for name in modules}
    for name in modules:
        sys.modules[name] = ModuleType(name)
    sys.modules[modules[-1]].InMemoryDocstore = InMemoryDocstore  # type: ignore[attr-defined]
    module = InMemoryDocstore.__module__
    InMemoryDocstore.__module__ = modules[-1]
    try:
        docstore = InMemoryDocstore({str(one.id): one for one in documents})
        order = {i: str(one.id) for i, one in enumerate(documents)}
        content = pickle.dumps((docstore, order), protocol=protocol)
    finally:
        InMemoryDocstore.__module__ = module
        for name, old in saved.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old
    path.mkdir(exist_ok=True)
    vectors = HashEmbedder().embed([one.page_content for one in documents])
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(path / "index.faiss"))
    (path / "index.pkl").write_bytes(content)
    return path


METADATA: dict[str, Any] = {
    "source": "a.pdf",
    "page": 3,
    "score": 0.25,
    "tags": ["x", "y"],
    "nested": {"deep": [1, None, True, {"a": (1, 2)}]},
    "when": datetime(2026, 5, 2, 14, 30, tzinfo=timezone(timedelta(hours=2))),
    "naive": datetime(2026, 5, 2),  # noqa: DTZ001
    "day": date(2026, 5, 2),
    "big": 2**70,
    "kinds": {"a", "b"},
}


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("package", ["langchain_community", "langchain"])
def test_the_documents_of_a_faiss_folder_are_read_as_they_were(
    tmp_path: Path, package: str, protocol: int
) -> None:
    documents = [
        Document(id=f"id-{i}", page_content=f"text {i} ü€", metadata=METADATA if i == 1 else {})
        for i in range(300)
    ]

    found = faiss_documents(
        folder(tmp_path / "faiss", documents, package=package, protocol=protocol)
    )

    assert found == documents


def test_they_move_into_a_vector_store(tmp_path: Path) -> None:
    metadata = {name: value for name, value in METADATA.items() if name != "big"}
    documents = [
        Document(id="1", page_content="green tea", metadata=metadata),
        Document(id="2", page_content="black ink"),
    ]
    with HybridVectorStore.open(None, HASHED) as store:
        for _ in range(2):
            store.add_documents(faiss_documents(folder(tmp_path / "faiss", documents)))

        [found] = store.similarity_search("tea", k=1, filter={"page": 3})
        assert (found.id, found.page_content) == ("1", "green tea")
        assert len(store.similarity_search("tea", k=9)) == 2


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path: Path) -> None:
    path = folder(tmp_path / "faiss", [Document(id="1", page_content="tea")])
    bombed = path / "was-here"
    content = pickle.dumps((Bomb(bombed), {}))
    (path / "index.pkl").write_bytes(content)

    with pytest.raises(TransferError, match="which is not read"):
        faiss_documents(path)
    assert not bombed.exists()
    pickle.loads(content)  # as FAISS.load_local does
    assert bombed.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02clangchain_core.documents.base\nDocument\n(S'x'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        b"\x80\x02Pperson\n.",
    ],
)
def test_calls_classes_and_references_of_any_kind_are_refused(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "index.pkl").write_bytes(content)

    with pytest.raises(TransferError, match=r"is not read|does more than hold data|calls"):
        faiss_documents(tmp_path)


def test_a_damaged_file_is_an_error_that_shows_no_text(tmp_path: Path) -> None:
    path = folder(tmp_path / "faiss", [Document(id="1", page_content="my secret tea")])
    content = (path / "index.pkl").read_bytes()

    for end in range(0, len(content) - 1, 7):
        (path / "index.pkl").write_bytes(content[:end])
        with pytest.raises(TransferError) as error:
            faiss_documents(path)
        assert "secret" not in str(error.value)
        assert error.value.__cause__ is None
    for place in range(0, len(content), 3):
        broken = bytearray(content)
        broken[place] ^= 0xFF
        (path / "index.pkl").write_bytes(bytes(broken))
        with suppress(TransferError):  # and nothing else, whatever was hit
            faiss_documents(path)
    (path / "index.pkl").write_bytes(pickle.dumps(["no", "docstore"]))
    with pytest.raises(TransferError, match="not the docstore"):
        faiss_documents(path)
    with pytest.raises(TransferError, match="cannot read"):
        faiss_documents(tmp_path / "missing")
