"""The vector store: LangChain's own suite, and what the stock stores get wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_hybrid_memory import HybridEmbeddings, HybridVectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from langchain_text_splitters import RecursiveCharacterTextSplitter

from hybrid_memory import HybridMemory
from hybrid_memory.errors import (
    ConflictError,
    EmbedderMismatchError,
    FilterError,
    InvalidInputError,
    MetadataError,
    TextError,
)
from hybrid_memory.testing import HashEmbedder

HASHED = HybridEmbeddings(HashEmbedder())


class TestStandard(VectorStoreIntegrationTests):
    """The suite that LangChain publishes."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Generator[VectorStore, None, None]:
        with HybridVectorStore.open(tmp_path / "store", self.get_embeddings()) as store:
            yield store


@pytest.fixture
def store(memory: HybridMemory) -> HybridVectorStore:
    return HybridVectorStore(memory)


def documents(count: int) -> list[Document]:
    return [
        Document(id=str(i), page_content=f"note number {i}", metadata={"tenant": i % 50})
        for i in range(count)
    ]


def texts(found: list[Document]) -> list[str]:
    return [one.page_content for one in found]


# -- scores ------------------------------------------------------------------------------------


def test_scores_are_in_0_and_1_and_the_same_text_scores_1(store: HybridVectorStore) -> None:
    store.add_texts(["green tea", "black ink", "the", "!"])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in ("green tea", "the", "!"):
            scored = store.similarity_search_with_relevance_scores(text, k=4)
            assert scored[0][0].page_content == text
            assert scored[0][1] == pytest.approx(1)
            assert all(0 <= score <= 1 for _, score in scored)
            assert [score for _, score in scored] == sorted((s for _, s in scored), reverse=True)


def test_stock_relevance_leaves_0_and_1() -> None:
    stock = Chroma(embedding_function=_Opposite(), collection_name="opposite")
    stock.add_texts(["yes", "no"])
    ours = HybridVectorStore.from_texts(["yes", "no"], _Opposite())

    with pytest.warns(UserWarning, match="Relevance scores must be between"):
        stock.similarity_search_with_relevance_scores("yes", k=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scored = ours.similarity_search_with_relevance_scores("yes", k=2)

    assert [(one.page_content, score) for one, score in scored] == [("yes", 1), ("no", 0)]


class _Opposite(Embeddings):
    """What says yes points one way, all else the other; not of norm 1."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [3.0, 4.0] if text == "yes" else [-3.0, -4.0]


def test_a_score_threshold_keeps_what_is_near(store: HybridVectorStore) -> None:
    store.add_texts(["green tea", "green tea with milk", "black ink"])
    retriever = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.5}
    )

    assert texts(retriever.invoke("green tea")) == ["green tea", "green tea with milk"]


# -- filters -----------------------------------------------------------------------------------


def test_a_filter_gives_k_whenever_k_match(store: HybridVectorStore) -> None:
    store.add_documents(documents(500))

    found = store.similarity_search("note number 7", k=10, filter={"tenant": 3})

    assert len(found) == 10
    assert {one.metadata["tenant"] for one in found} == {3}
    assert len(store.similarity_search("note", k=490, filter={"tenant": {"$lt": 49}})) == 490


def test_a_filter_of_two_keys_is_both(store: HybridVectorStore) -> None:
    metadatas = [{"city": "Lyon", "year": 2025}, {"city": "Lyon", "year": 2026}]
    stock = Chroma.from_texts(["a", "b"], HASHED, metadatas=metadatas, collection_name="two")
    store.add_texts(["a", "b"], metadatas=metadatas)
    where: dict[str, Any] = {"city": "Lyon", "year": 2026}

    with pytest.raises(ValueError, match="exactly one operator"):
        stock.similarity_search("a", filter=where)
    assert texts(store.similarity_search("a", filter=where)) == ["b"]


def test_a_filter_speaks_of_metadata_also_where_a_record_has_a_field_of_that_name(
    store: HybridVectorStore,
) -> None:
    names = {"kind": "report", "role": "draft", "source": "a\n" + 300 * "b", "at": "Lyon"}
    store.add_texts(["one", "two"], metadatas=[names, {"kind": "letter"}])

    for name, value in names.items():
        assert texts(store.similarity_search("x", filter={name: value})) == ["one"]
    assert texts(store.similarity_search("x", filter={"$not": {"kind": "report"}})) == ["two"]
    both = {"$or": [{"kind": "letter"}, {"$and": [{"role": "draft"}]}]}
    assert len(store.similarity_search("x", filter=both)) == 2
    assert store.get_by_ids([store.similarity_search("one", k=1)[0].id or ""])[0].metadata == names


def test_a_filter_or_an_argument_that_is_wrong_is_an_error(store: HybridVectorStore) -> None:
    store.add_texts(["one"])

    with pytest.raises(FilterError, match="unknown operator"):
        store.similarity_search("one", filter={"n": {"$near": 1}})
    with pytest.raises(FilterError, match="must be a mapping"):
        store.similarity_search("one", filter=lambda document: True)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="unknown argument 'where'"):
        store.similarity_search("one", where={"n": 1})
    with pytest.raises(InvalidInputError, match="unknown argument 'namespace'"):
        store.add_texts(["two"], namespace="x")


# -- ids, deletes and updates ------------------------------------------------------------------


def test_adding_an_id_again_replaces_text_and_metadata_whole(store: HybridVectorStore) -> None:
    store.add_texts(["first"], metadatas=[{"a": 1, "b": 2}], ids=["1"])

    store.add_texts(["second"], metadatas=[{"a": 3}], ids=["1"])

    assert store.get_by_ids(["1"]) == [Document(id="1", page_content="second", metadata={"a": 3})]
    assert texts(store.similarity_search("first", k=5)) == ["second"]


def test_stale_metadata_stays_in_chroma() -> None:
    stock = Chroma(embedding_function=HASHED, collection_name="stale")
    stock.add_texts(["first"], metadatas=[{"a": 1, "b": 2}], ids=["1"])
    stock.add_texts(["second"], metadatas=[{"a": 3}], ids=["1"])

    assert stock.get_by_ids(["1"])[0].metadata == {"a": 3, "b": 2}


def test_what_is_there_as_it_is_is_not_encoded_again(
    store: HybridVectorStore, embedder: Any
) -> None:
    store.add_documents(documents(20))
    embedder.count = 0

    store.add_documents([*documents(19), Document(id="19", page_content="changed")])

    assert embedder.count == 1


def test_ids_come_from_the_argument_then_the_document_then_are_made(
    store: HybridVectorStore,
) -> None:
    given = [Document(id=id, page_content=f"text {id}") for id in ("a", "b", None)]

    ids = store.add_documents(given, ids=["x", None, None])

    assert ids[:2] == ["x", "b"]
    assert len(ids[2]) == 32
    assert texts(store.get_by_ids(ids)) == ["text a", "text b", "text None"]
    with pytest.raises(InvalidInputError, match="1 ids were given for 3 documents"):
        store.add_documents(given, ids=["x"])


def test_the_same_text_under_two_ids_is_two_documents(store: HybridVectorStore) -> None:
    store.add_texts(["yes", "yes"], metadatas=[{"by": "ana"}, {"by": "ben"}])

    found = store.similarity_search("yes", k=5)

    assert [one.metadata["by"] for one in found] == ["ana", "ben"]


def test_delete_without_ids_deletes_all_documents_and_nothing_else(memory: HybridMemory) -> None:
    ana = memory.scope(user_id="ana")
    said = ana.add("I like tea.", id="said")
    store = HybridVectorStore(memory, namespace=("ana",))
    other = HybridVectorStore(memory, namespace=("other",))
    store.add_documents(documents(5))
    other.add_documents(documents(5))

    store.delete(["said", "0", "missing"])
    assert ana.get("said") == said
    assert store.get_by_ids(["said", "0", "1"])[0].id == "1"
    store.delete()

    assert store.similarity_search("note") == []
    assert ana.get("said") == said
    assert len(other.similarity_search("note", k=9)) == 5


def test_a_memory_is_not_overwritten_by_a_document(memory: HybridMemory) -> None:
    memory.scope(user_id="ana").add("I like tea.", id="1")

    with pytest.raises(ConflictError, match="of the kind 'message'"):
        HybridVectorStore(memory, namespace=("ana",)).add_texts(["tea"], ids=["1"])


def test_an_add_that_is_refused_adds_nothing(store: HybridVectorStore) -> None:
    with pytest.raises(TextError, match="split it"):
        store.add_texts(["fine", 70_000 * "x"])
    with pytest.raises(MetadataError, match=r"metadata\.file is a object"):
        store.add_texts(["fine", "other"], metadatas=[{}, {"file": object()}])

    assert store.similarity_search("fine") == []


def test_any_number_of_texts_goes_in_at_once_where_chroma_has_a_limit() -> None:
    told = [f"text {i}" for i in range(6000)]
    stock = Chroma(embedding_function=HASHED, collection_name="many")

    with pytest.raises(Exception, match="5461"):
        stock.add_texts(told)
    with HybridVectorStore.from_texts(told, HASHED) as ours:
        assert len(ours.get_by_ids(ours.add_texts(["text 5999"]))) == 1
        assert len(ours.similarity_search("text", k=7000)) == 6001


def test_all_is_deleted_without_ids_where_chroma_raises(store: HybridVectorStore) -> None:
    stock = Chroma.from_texts(["tea"], HASHED, collection_name="all")
    store.add_texts(["tea"])

    with pytest.raises(ValueError, match="At least one"):
        stock.delete()
    assert store.delete() is True
    assert store.similarity_search("tea") == []


def test_threads_that_write_at_once_mix_up_no_vectors(store: HybridVectorStore) -> None:
    def write(thread: int) -> None:
        for i in range(12):
            ids = [f"{thread}-{i}-{j}" for j in range(3)]
            store.add_texts([f"text of {id}" for id in ids], ids=ids)
            store.delete(ids[:1])
            store.similarity_search("text", k=2)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))

    found = store.similarity_search("text", k=1000)
    assert len(found) == 8 * 12 * 2
    for one in found:
        vector = store.embeddings.embed_documents([one.page_content])[0]
        scored = store.similarity_search_with_score_by_vector(vector, k=1000)
        assert {near.id: score for near, score in scored}[one.id] == pytest.approx(1)


# -- loaders, splitters, indexing --------------------------------------------------------------


def test_metadata_of_loaders_are_taken_where_chroma_refuses_them(
    store: HybridVectorStore,
) -> None:
    metadata = {
        "when": datetime(2026, 5, 2, 14, tzinfo=UTC),
        "path": Path("a/b"),
        "tags": {"b", "a"},
        "nested": {"page": 3},
        "empty": None,
        "score": float("nan"),
    }
    stock = Chroma(embedding_function=HASHED, collection_name="dates")

    with pytest.raises(ValueError, match="metadata"):
        stock.add_texts(["text"], metadatas=[metadata])
    [id] = store.add_texts(["text"], metadatas=[metadata])

    assert store.get_by_ids([id])[0].metadata == {
        "when": "2026-05-02T14:00:00+00:00",
        "path": "a/b",
        "tags": ["a", "b"],
        "nested": {"page": 3},
        "empty": None,
        "score": None,
    }
    since = datetime(2026, 5, 1, tzinfo=UTC)
    assert len(store.similarity_search("text", filter={"when": {"$gte": since}})) == 1
    assert len(store.similarity_search("text", filter={"nested.page": 3})) == 1


def test_blank_pages_and_nuls_of_pdfs_cost_no_other_page(
    store: HybridVectorStore, caplog: pytest.LogCaptureFixture
) -> None:
    ids = store.add_texts(["first page", "", " \n", "with\0nul"])

    assert len(ids) == 4
    assert texts(store.get_by_ids(ids)) == ["first page", "with nul"]
    assert "2 blank documents" in caplog.text


def test_a_splitter_and_index_work_on_it(store: HybridVectorStore) -> None:
    splitter = RecursiveCharacterTextSplitter(chunk_size=60, chunk_overlap=0)
    records = InMemoryRecordManager("docs")
    records.create_schema()

    def learn(*pages: str) -> dict[str, int]:
        loaded = [
            Document(page_content=page, metadata={"source": f"{i}.md"})
            for i, page in enumerate(pages)
        ]
        return dict(
            index(
                splitter.split_documents(loaded),
                records,
                store,
                cleanup="full",
                source_id_key="source",
                key_encoder="sha256",
            )
        )

    first = learn("Tea is a drink. " * 6, "Ink is no drink.")
    again = learn("Tea is a drink. " * 6, "Ink is no drink.")
    changed = learn("Tea is a drink. " * 6, "Ink is for pens.")

    assert first["num_added"] > 1
    assert (again["num_added"], again["num_skipped"]) == (0, first["num_added"])
    assert (changed["num_added"], changed["num_deleted"]) == (1, 1)
    assert texts(store.similarity_search("ink", k=1)) == ["Ink is for pens."]
    assert texts(store.similarity_search("ink", k=1, filter={"source": "0.md"}))[0].startswith(
        "Tea"
    )


# -- MMR, modes, retrievers --------------------------------------------------------------------


def test_mmr_prefers_variety_among_the_nearest(store: HybridVectorStore) -> None:
    store.add_texts(["tea and cake", "tea and cake!", "tea for you", "wine"])
    vector = store.embeddings.embed_query("tea and cake")

    plain = texts(store.similarity_search("tea and cake", k=2))
    varied = texts(store.max_marginal_relevance_search("tea and cake", k=2, lambda_mult=0.3))

    assert plain == ["tea and cake", "tea and cake!"]
    assert varied[1] not in plain
    assert varied == texts(
        store.max_marginal_relevance_search_by_vector(vector, k=2, lambda_mult=0.3)
    )
    assert plain == texts(store.similarity_search_by_vector(vector, k=2))
    assert plain == texts(
        store.max_marginal_relevance_search("tea and cake", k=2, lambda_mult=0.3, fetch_k=2)
    )
    retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "lambda_mult": 0.3})
    assert texts(retriever.invoke("tea and cake")) == varied


class _Blind(Embeddings):
    """To it all texts are alike, but for the question."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.01 * i] for i, _ in enumerate(texts)]

    def embed_query(self, text: str) -> list[float]:
        return [1.0, 0.0]


def test_in_hybrid_mode_words_find_what_the_embedding_does_not() -> None:
    told = ["the printer is broken", "the pump is leaking", "error E-4711 on start"]
    stock = InMemoryVectorStore.from_texts(told, _Blind())

    with HybridVectorStore.from_texts(told, _Blind(), mode="hybrid") as store:
        [(best, score)] = store.similarity_search_with_score("What is E-4711?", k=1)

    assert best.page_content == "error E-4711 on start"
    assert 0 < score < 1
    assert texts(stock.similarity_search("What is E-4711?", k=1)) == ["the printer is broken"]


def test_a_mode_is_one_of_two(memory: HybridMemory) -> None:
    with pytest.raises(InvalidInputError, match="'dense' or 'hybrid', not 'sparse'"):
        HybridVectorStore(memory, mode="sparse")  # type: ignore[arg-type]


# -- making, closing, persistence --------------------------------------------------------------


def test_every_write_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from langchain_hybrid_memory import HybridEmbeddings, HybridVectorStore\n"
        "from hybrid_memory.testing import HashEmbedder\n"
        "store = HybridVectorStore.open(sys.argv[1], HybridEmbeddings(HashEmbedder()))\n"
        "store.add_texts(['tea', 'ink'], ids=['1', '2'])\n"
        "store.delete(['2'])\n"
        "os._exit(9)\n"  # no close, no flush, no atexit
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")],
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )
    assert done.returncode == 9

    with HybridVectorStore.open(tmp_path / "store", HASHED) as store:
        assert texts(store.similarity_search("tea", k=5)) == ["tea"]


def test_without_a_path_it_lasts_as_long_as_the_object(tmp_path: Path) -> None:
    store = HybridVectorStore.from_documents(documents(3), HASHED)
    [directory] = {Path(path).parent for path in _files(store)}

    assert len(store.similarity_search("note")) == 3
    store.close()
    store.close()
    assert not directory.exists()


def _files(store: HybridVectorStore) -> Iterator[str]:
    yield from store.memory.verify_erased().files


def test_from_documents_keeps_ids_and_shares_a_memory(memory: HybridMemory) -> None:
    store = HybridVectorStore.from_documents(
        documents(3), None, memory=memory, namespace=("papers",)
    )
    store.close()  # a memory that was given stays open

    assert [one.id for one in store.get_by_ids(["2", "0"])] == ["2", "0"]
    assert memory.scope(namespace=("papers",)).search("note", kinds="document")


def test_another_embedding_is_refused(memory: HybridMemory, tmp_path: Path) -> None:
    with pytest.raises(EmbedderMismatchError, match="hashed-words"):
        HybridVectorStore.from_texts(["a"], _Blind(), memory=memory)
    with HybridVectorStore.from_texts(["a"], _Blind(), path=tmp_path / "store"):
        pass
    with pytest.raises(EmbedderMismatchError, match="_Blind"):
        HybridVectorStore.open(tmp_path / "store", HASHED)


async def test_async_forms_give_the_same_and_leave_the_loop_free(store: HybridVectorStore) -> None:
    await store.aadd_documents(documents(30))
    vector = store.embeddings.embed_query("note number 7")

    many = await asyncio.gather(*(store.asimilarity_search(f"note number {i}") for i in range(30)))

    assert many == [store.similarity_search(f"note number {i}") for i in range(30)]
    assert await store.asimilarity_search_with_score("note") == (
        store.similarity_search_with_score("note")
    )
    assert await store.asimilarity_search_by_vector(vector) == (
        store.similarity_search_by_vector(vector)
    )
    assert await store.amax_marginal_relevance_search("note number 7") == (
        store.max_marginal_relevance_search("note number 7")
    )
    assert await store.amax_marginal_relevance_search_by_vector(vector) == (
        store.max_marginal_relevance_search_by_vector(vector)
    )
    assert len(await store.asimilarity_search_with_relevance_scores("note", score_threshold=0)) == 4
    assert await store.adelete() is True
    made = await HybridVectorStore.afrom_texts(["tea"], HASHED)
    assert texts(await made.as_retriever().ainvoke("tea")) == ["tea"]
    made.close()


def test_importing_it_loads_neither_agents_nor_chains() -> None:
    code = "import sys\nfrom langchain_hybrid_memory import HybridVectorStore\nprint(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    ).stdout.split()

    assert "langchain_core.vectorstores" in loaded
    assert {"langchain", "langchain_classic", "langgraph", "faiss", "chromadb", "torch"}.isdisjoint(
        loaded
    )
