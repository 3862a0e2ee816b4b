"""What may come in: every refusal has its type, names its value and shows a way out."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_memory import HybridMemory, Scope, limits
from hybrid_memory.errors import (
    DimensionMismatchError,
    HybridMemoryError,
    InvalidInputError,
    MetadataError,
    NamespaceError,
    TextError,
    TimeError,
    VectorError,
)

NAN, INF = float("nan"), float("inf")
PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)


class _Nowhere(tzinfo):
    """A zone that does not know its offset, as a half-made one does."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None

    def dst(self, moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return None


def _nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


# -- texts and labels --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "empty"),
        (" \t\r\n\u2003", "empty"),
        ("ab\0c", "NUL character at 2; remove it"),
        ("ab\ud800c", r"lone surrogate at 2; decode it with errors='replace'"),
        ("\udfff", "lone surrogate at 0"),
        ("a" * (64 * 1024 + 1), "65537 bytes, more than 65536; split it"),
        ("\u00e9" * (32 * 1024 + 1), "65538 bytes"),
        (None, "must be a string, not NoneType"),
        (b"bytes", "must be a string, not bytes"),
        (7, "must be a string, not int"),
    ],
)
def test_a_text_that_cannot_be_stored_is_refused_with_the_reason(value: Any, message: str) -> None:
    with pytest.raises(TextError, match=message):
        limits.text(value)


@pytest.mark.parametrize(
    "value", ["a", " a ", "line\none", "\U0001f600", "a" * 65536, "\u00e9" * 32768]
)
def test_a_text_that_can_be_stored_is_returned_unchanged(value: str) -> None:
    assert limits.text(value) == value


@pytest.mark.parametrize("bad", ["secret\0", "secret\ud800", "secret" * 20_000])
def test_a_refused_text_is_not_repeated_by_its_error(bad: str) -> None:
    with pytest.raises(TextError) as caught:
        limits.text(bad)

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_argument_is_named_by_its_error() -> None:
    with pytest.raises(TextError, match=r"^query is empty"):
        limits.text("", "query")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "speaker is empty"),
        (" \u00a0", "speaker is empty"),
        ("a\nb", "control character"),
        ("a\0b", "control character"),
        ("a\x85b", "control character"),
        ("a\ud800", "surrogate"),
        ("a" * 257, "257 characters, more than 256; shorten or hash it"),
        (3, "speaker must be a string, not int"),
        (None, "speaker must be a string, not NoneType"),
    ],
)
def test_a_label_that_is_no_name_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        limits.label(value, "speaker")


def test_a_label_in_either_unicode_form_is_the_same_label() -> None:
    assert limits.label("Jose\u0301", "speaker") == limits.label("Jos\u00e9", "speaker")


def test_a_label_may_be_as_long_as_the_bound() -> None:
    assert limits.label("a" * 256, "id") == "a" * 256


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("ana", r"a tuple of labels such as \('team', 'ana'\), not 'ana'"),
        (None, "not None"),
        (7, "not 7"),
        ({"ana"}, "tuple"),
        ((), "1 to 8 labels, not 0"),
        (("a",) * 9, "1 to 8 labels, not 9"),
        (("ana", ""), "empty"),
        (("ana", 1), "string, not int"),
        (("ana", None), "string, not NoneType"),
        (("a\0",), "control"),
        ((("nested",),), "string, not tuple"),
        (("a" * 257,), "257 characters"),
    ],
)
def test_a_malformed_namespace_is_refused(value: Any, message: str) -> None:
    with pytest.raises(NamespaceError, match=message):
        limits.namespace(value)


def test_a_namespace_may_be_a_list_and_is_a_tuple_after() -> None:
    assert limits.namespace(["team", "ana"]) == ("team", "ana")


# -- times -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (datetime(2026, 1, 1), "at 2026-01-01T00:00:00 has no zone; add one"),  # noqa: DTZ001
        (datetime(2026, 1, 1, tzinfo=_Nowhere()), "no zone"),
        (date(2026, 1, 1), "must be a datetime, not date"),
        ("2026-01-01T00:00:00Z", "must be a datetime, not str"),
        (1.5, "must be a datetime, not float"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), "out of range"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))), "out of range"),
    ],
)
def test_a_time_without_a_zone_or_out_of_range_is_refused(value: Any, message: str) -> None:
    with pytest.raises(TimeError, match=message):
        limits.when(value, "at")


ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@PROPERTY
@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=ZONES)  # noqa: DTZ001
)
def test_a_time_survives_as_microseconds_exactly(moment: datetime) -> None:
    stored = limits.microseconds(limits.when(moment, "at"))

    assert limits.from_microseconds(stored) == moment
    assert limits.microseconds(limits.from_microseconds(stored)) == stored
    assert limits.from_microseconds(stored).tzinfo == UTC


@PROPERTY
@given(*[st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=ZONES)] * 2)  # noqa: DTZ001
def test_microseconds_keep_the_order_of_times(one: datetime, other: datetime) -> None:
    assert (one < other) == (limits.microseconds(one) < limits.microseconds(other))


# -- choices and numbers -----------------------------------------------------------------------


@pytest.mark.parametrize("value", ["dream", "Message", "", None, 1])
def test_an_unknown_kind_is_refused_and_the_known_ones_listed(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"unknown kind {value!r}; one of message, fact"):
        limits.kind(value)


@pytest.mark.parametrize("value", ["king", "User", "", None])
def test_an_unknown_role_is_refused_and_the_known_ones_listed(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"unknown role {value!r}; one of user, assistant"):
        limits.role(value)


def test_kinds_may_be_one_or_many_or_none() -> None:
    assert limits.kinds("fact") == frozenset({"fact"})
    assert limits.kinds(["fact", "event"]) == frozenset({"fact", "event"})
    assert limits.kinds(None) is None
    with pytest.raises(InvalidInputError, match="unknown kind 'dream'"):
        limits.kinds(["fact", "dream"])


@pytest.mark.parametrize("value", [-0.1, 1.1, NAN, INF, -INF, 10**400])
def test_a_fraction_outside_0_to_1_is_refused_with_its_value(value: float) -> None:
    with pytest.raises(InvalidInputError, match="importance must be between 0 and 1"):
        limits.fraction(value, "importance")


@pytest.mark.parametrize("value", [True, "0.5", None])
def test_a_fraction_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="importance must be a number, not"):
        limits.fraction(value, "importance")


@pytest.mark.parametrize("k", [0, -1, 201, 10**9])
def test_k_outside_1_to_200_is_refused_with_its_value(ana: Scope, k: int) -> None:
    with pytest.raises(InvalidInputError, match=f"k must be between 1 and 200: {k}"):
        ana.search("Lyon", k=k)


@pytest.mark.parametrize("k", [True, 2.0, "3", None])
def test_k_that_is_no_integer_is_refused(ana: Scope, k: Any) -> None:
    with pytest.raises(InvalidInputError, match="k must be an integer, not"):
        ana.search("Lyon", k=k)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query": " "}, "query is empty"),
        ({"query": "a\ud800"}, "surrogate"),
        ({"min_score": 2}, "min_score"),
        ({"mmr_lambda": -1}, "mmr_lambda"),
        ({"kinds": "dream"}, "'dream'"),
        ({"now": datetime(2026, 1, 1)}, "now .* has no zone"),  # noqa: DTZ001
        ({"where": {"$where": 1}}, "'\\$where'"),
    ],
)
def test_a_bad_argument_of_search_is_refused_even_by_an_empty_memory(
    ana: Scope, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        ana.search(**({"query": "Lyon"} | arguments))


@pytest.mark.parametrize("max_tokens", [0, -5, 1.5, True])
def test_a_budget_below_one_token_is_refused(ana: Scope, max_tokens: Any) -> None:
    with pytest.raises(InvalidInputError, match="max_tokens"):
        ana.context("Lyon", max_tokens=max_tokens)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"user_id": "ana", "namespace": ("ana",)},
        {"user_id": ""},
        {"namespace": "ana"},
        {"user_id": "ana", "read": "handbook"},
        {"user_id": "ana", "read": ["handbook"]},
        {"user_id": "ana", "session_id": ""},
    ],
)
def test_a_scope_without_one_proper_namespace_is_refused(
    memory: HybridMemory, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        memory.scope(**arguments)


@pytest.mark.parametrize("items", ["text", {"text": "an item"}])
def test_one_item_where_many_are_expected_is_refused_instead_of_cut_up(
    ana: Scope, items: Any
) -> None:
    with pytest.raises(InvalidInputError):
        ana.add_many(items)

    assert ana.stats().total == 0


@pytest.mark.parametrize("item", [7, None, ["text"], b"text"])
def test_an_item_that_is_neither_a_text_nor_a_mapping_is_refused(ana: Scope, item: Any) -> None:
    with pytest.raises(InvalidInputError):
        ana.add_many([item])


# -- JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "metadata must be a mapping, not list"),
        ("{}", "metadata must be a mapping, not str"),
        ({"x": NAN}, r"metadata\.x is nan"),
        ({"x": [1, -INF]}, r"metadata\.x\[1\] is -inf"),
        ({"x": datetime(2026, 1, 1, tzinfo=UTC)}, r"is a datetime, .* use its isoformat\(\)"),
        ({"x": b"bytes"}, r"metadata\.x is a bytes, which JSON cannot hold"),
        ({"x": {1, 2}}, "is a set"),
        ({"x": object()}, "is a object"),
        ({"x": np.float32(1)}, "is a float32"),
        ({1: "x"}, "the key 1; keys are strings"),
        ({"x": {None: 1}}, r"metadata\.x has the key None"),
        ({"x": "a\0b"}, r"metadata\.x has a NUL"),
        ({"x": "a\ud800b"}, "lone surrogate"),
        ({"a\0": 1}, "a key of metadata has a NUL"),
        ({"\udc00": 1}, "a key of metadata"),
        (_nested(6), "nested deeper than 5 levels"),
        ({"x": [[[[[1]]]]]}, "nested deeper than 5 levels"),
        ({"x": "y" * 16384}, r"16392 bytes as JSON, more than 16384; store the bulk as text"),
        ({"x": "\u00e9" * 8192}, "16392 bytes"),
    ],
)
def test_metadata_that_json_cannot_hold_is_refused_by_its_path(value: Any, message: str) -> None:
    with pytest.raises(MetadataError, match=message):
        limits.json_object(value, "metadata")


def test_metadata_that_holds_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["again"] = value

    with pytest.raises(MetadataError, match="deeper"):
        limits.json_object(value, "metadata")


def test_a_number_with_more_digits_than_can_be_written_is_refused() -> None:
    with pytest.raises(MetadataError, match="metadata"):
        limits.json_object({"x": 10**5000}, "metadata")


def test_metadata_at_its_bounds_is_accepted() -> None:
    assert limits.json_object(_nested(5), "metadata") == _nested(5)
    assert limits.json_object({"x": "y" * (16384 - 8)}, "metadata")


def test_a_refused_value_is_not_repeated_by_its_error() -> None:
    with pytest.raises(MetadataError) as caught:
        limits.json_object({"x": "secret\0"}, "metadata")

    assert "secret" not in str(caught.value)


def test_a_value_of_the_profile_may_be_as_deep_as_metadata() -> None:
    assert limits.json_value(_nested(5), "profile") == _nested(5)


def test_a_refused_value_of_the_profile_is_named_as_the_caller_wrote_it(ana: Scope) -> None:
    with pytest.raises(MetadataError, match=r"^profile\['height'\] is nan"):
        ana.profile["height"] = NAN


def test_a_key_of_the_profile_is_found_in_either_unicode_form(ana: Scope) -> None:
    ana.profile["Cafe\u0301"] = "noir"

    assert ana.profile["Caf\u00e9"] == "noir"
    assert ana.profile["Cafe\u0301"] == "noir"
    del ana.profile["Cafe\u0301"]
    assert len(ana.profile) == 0


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, dict | list) + max(map(_depth, inner), default=0)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("k"), inner, max_size=3),
    max_leaves=8,
)


@PROPERTY
@given(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3).filter(lambda v: _depth(v) <= 5))
def test_accepted_metadata_comes_back_from_json_as_it_was(value: dict[str, Any]) -> None:
    plain = limits.json_object(value, "metadata")

    assert json.loads(limits.to_json(plain)) == plain == value


# -- vectors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        (np.ones(3), VectorError, r"shape \(3,\)"),
        (np.ones((2, 3, 1)), VectorError, "shape"),
        (np.ones((1, 3)), VectorError, "for 2 texts"),
        (np.ones((3, 3)), VectorError, "for 2 texts"),
        (np.ones((2, 4)), DimensionMismatchError, "says dim=3 and gave 4"),
        (np.ones((2, 0)), DimensionMismatchError, "gave 0"),
        (np.array([["a", "b", "c"]] * 2), VectorError, "of floats"),
        (np.ones((2, 3), bool), VectorError, "of floats"),
        (np.ones((2, 3), complex), VectorError, "of floats"),
        (np.array([[1, 0, 0], [0, NAN, 0]]), VectorError, "vector 1 of 2 holds a NaN"),
        (np.array([[INF, 0, 0], [0, 1, 0]]), VectorError, "vector 0 of 2 holds"),
        (np.array([[1, 0, 0], [2e6, 0, 0]]), VectorError, "vector 1 of 2 has a norm over 1e6"),
        ([[1, 0, 0], [1, 0]], VectorError, "array|texts|rows"),
        (None, VectorError, "for 2 texts"),
        ("vectors", VectorError, "for 2 texts"),
    ],
)
def test_vectors_that_an_embedder_must_not_give_are_refused(
    vectors: Any, error: type[HybridMemoryError], message: str
) -> None:
    with pytest.raises(error, match=message):
        limits.unit_vectors(vectors, count=2, dim=3)


def test_a_norm_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(VectorError, match="norm over 1e6"), np.errstate(over="ignore"):
        limits.unit_vectors(np.array([[1e200, 1e200]]), count=1, dim=2)


def test_a_vector_of_zeros_stays_zero() -> None:
    unit = limits.unit_vectors(np.array([[0, 0], [0, 2]]), count=2, dim=2)

    assert unit.tolist() == [[0, 0], [0, 1]]


def test_a_vector_of_rounding_noise_is_zero() -> None:
    assert not limits.unit_vectors(np.array([[1e-9, -1e-9]]), count=1, dim=2).any()


@PROPERTY
@given(
    st.lists(
        st.lists(st.floats(-1e5, 1e5, width=32), min_size=4, max_size=4), min_size=1, max_size=5
    ),
    st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_vectors_keep_their_direction_and_get_norm_1(rows: list[list[float]], dtype: Any) -> None:
    given_vectors = np.clip(np.array(rows), -6e4, 6e4).astype(dtype)

    unit = limits.unit_vectors(given_vectors, count=len(rows), dim=4)

    assert unit.dtype == np.float32
    assert unit.flags.c_contiguous
    lengths = np.linalg.norm(given_vectors.astype(np.float64), axis=1)
    assert np.allclose(np.linalg.norm(unit, axis=1), lengths >= 1e-6, atol=1e-5)
    assert np.allclose(unit * lengths[:, None], given_vectors, rtol=1e-3, atol=1e-3)


def test_every_refusal_is_also_a_value_error() -> None:
    for error in (TextError, MetadataError, NamespaceError, TimeError, VectorError):
        assert issubclass(error, ValueError)
        assert issubclass(error, InvalidInputError)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_question_whose_vector_is_no_number_is_refused(value: float) -> None:
    vector = np.zeros(4, np.float32)
    vector[2] = value

    with pytest.raises(VectorError, match="NaN or an infinity"):
        limits.unit_vector(vector, dim=4)


def test_the_vector_of_a_question_comes_out_with_norm_1() -> None:
    unit = np.array([0.6, 0.8], np.float32)

    assert limits.unit_vector(unit, dim=2) is unit
    assert limits.unit_vector([3.0, 4.0], dim=2) == pytest.approx([0.6, 0.8])
    with pytest.raises(DimensionMismatchError):
        limits.unit_vector(unit, dim=3)


# -- found by tests/reliability/hostile.py -------------------------------------------------------


class _Failing(_Nowhere):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(days=2)


def test_lists_that_share_their_parts_are_refused_before_they_are_walked_whole() -> None:
    value: Any = 0
    for _ in range(4):
        value = [value] * 1000

    with pytest.raises(MetadataError, match="metadata has far more than 16384 bytes as JSON"):
        limits.json_object({"x": value}, "metadata")


def test_a_zone_with_an_offset_that_cannot_be_is_refused() -> None:
    with pytest.raises(TimeError, match="at has a zone without a proper offset"):
        limits.when(datetime(2026, 1, 1, tzinfo=_Failing()), "at")


def test_a_number_too_long_to_write_is_told_by_its_size(ana: Scope) -> None:
    with pytest.raises(InvalidInputError, match="k must be between 1 and 200: an integer of"):
        ana.search("Lyon", k=10**5000)
    with pytest.raises(InvalidInputError, match="an integer of"):
        ana.update("x", expected_version=10**5000)


@pytest.mark.parametrize("value", [None, True, "1", NAN, INF, -1, 10**400, timedelta(1)])
def test_a_time_limit_is_a_number_of_seconds(ana: Scope, value: Any) -> None:
    ana.add("I live in Lyon.")

    with pytest.raises(InvalidInputError, match="timeout_s must be"):
        ana.erase(timeout_s=value)

    assert ana.stats().total == 1


@pytest.mark.parametrize("value", [7, "x", [print]])
def test_what_is_to_be_called_is_looked_at_before_anything_is_done(
    ana: Scope, memory: HybridMemory, tmp_path: Path, value: Any
) -> None:
    for call in (
        lambda: ana.add_documents("A.", source="a.md", on_progress=value),
        lambda: ana.ask("A?", on_token=value),
        lambda: ana.import_([(None, {"text": "A."})], on_progress=value),
        lambda: memory.export(tmp_path / "out", on_progress=value),
        lambda: memory.backup(tmp_path / "out", on_progress=value),
        lambda: memory.repair(on_progress=value),
        lambda: memory.check(on_progress=value),
    ):
        with pytest.raises(InvalidInputError, match=r"on_\w+ must be a function"):
            call()

    assert ana.stats().total == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [7, "text", {"memory_allowed": False}])
def test_a_gate_and_a_budget_are_values_of_their_classes(ana: Scope, value: Any) -> None:
    with pytest.raises(InvalidInputError, match="gate must be a Gate"):
        ana.context("Lyon", gate=value)
    with pytest.raises(InvalidInputError, match="budget must be a Budget"):
        ana.ask("Lyon?", budget=value)


@pytest.mark.parametrize(
    "parts",
    [
        {"embedder": 0},
        {"documents": {}},
        {"llm": "gpt"},
        {"rerank": "minsim"},
        {"weights": {"cosine": 1}},
        {"readers": [".pdf"]},
        {"readers": {".pdf": print}},
        {"clock": 7},
        {"max_cache_bytes": "1 GB"},
        {"durability": "a secret of a user"},
    ],
    ids=str,
)
def test_a_part_without_its_methods_is_refused_before_a_directory_is_made(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    with pytest.raises(HybridMemoryError) as caught:
        HybridMemory.open(tmp_path / "new", **parts)

    assert "secret" not in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("value", [None, 7, b"x", ["x"], "a\0b", "\ud800", "x" * 5000])
def test_what_is_no_path_is_refused(memory: HybridMemory, value: Any) -> None:
    for call in (HybridMemory.open, memory.backup):
        with pytest.raises(InvalidInputError, match="path"):
            call(value)


@pytest.mark.parametrize("value", [None, 7, 1.5, object()])
def test_what_cannot_be_iterated_over_is_refused(
    ana: Scope, memory: HybridMemory, value: Any
) -> None:
    for call in (
        ana.add_many,
        ana.add_messages,
        lambda value: ana.add_documents(value, source="a.md"),
        ana.import_,
        lambda value: memory.scope(user_id="ana", read=value),
        lambda value: memory.scope(user_id="ana", sources=value),
        memory.verify_erased,
        lambda value: memory.verify_erased(vectors=value),
        lambda value: ana.search("Lyon", kinds=value or 0),
    ):
        with pytest.raises(InvalidInputError):
            call(value)


def test_items_of_an_import_are_pairs(ana: Scope) -> None:
    for item in (None, 7, (), ("ana",), ("ana", {}, 1)):
        with pytest.raises(InvalidInputError, match="item 1 is not a namespace"):
            ana.import_([item])  # type: ignore[list-item]
    assert ana.import_([(None, "A text.")]).added == 1  # type: ignore[list-item]


def test_metadata_of_documents_is_looked_at_like_any_other(ana: Scope) -> None:
    with pytest.raises(MetadataError):
        ana.add_documents("A.", source="a.md", metadata={"x": b"bytes"})


def test_an_operator_of_a_filter_is_not_repeated_at_length(ana: Scope) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ana.search("Lyon", where={"city": {"$" + "x" * 100_000: 1}})
    assert len(str(caught.value)) < 400
    with pytest.raises(InvalidInputError, match="more than 10000 values"):
        ana.search("Lyon", where={"city": {"$in": [1] * 10_001}})


def test_a_minus_before_zero_does_not_damage_a_record(ana: Scope, memory: HybridMemory) -> None:
    record = ana.add("I live in Lyon.", importance=-0.0)
    ana.update(record.id, importance=-0.0)

    assert ana.get(record.id).importance == 0
    assert memory.check().is_clean


def test_a_question_at_the_end_of_time_is_answered(ana: Scope) -> None:
    ana.ask("Which language?", now=datetime.max.replace(tzinfo=UTC))

    assert [turn.role for turn in ana.messages()] == ["user", "assistant"]


def test_a_budget_and_a_name_have_their_bounds(ana: Scope, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="max_tokens must be between"):
        ana.context("Lyon", max_tokens=10**400)
    with pytest.raises(InvalidInputError, match="name of more than 255 bytes"):
        ana.add_documents(tmp_path / ("x" * 300))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(HybridMemoryError):
        ana.import_(tmp_path / "loop")
    with pytest.raises(InvalidInputError, match="propose must be True or False"):
        ana.add_instruction("Rhyme.", propose="no")  # type: ignore[arg-type]
