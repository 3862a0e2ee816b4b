"""The filter language: what matches, what is missing, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hybrid_memory import Scope
from hybrid_memory.errors import FilterError, InvalidInputError
from hybrid_memory.filters import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    MISSING,
    RECORD_FIELDS,
    compile_where,
    metadata_value,
)
from hybrid_memory.limits import microseconds

LYON = {"city": "Lyon", "n": 3, "ok": True, "tags": ["red", "blue", 7], "at_home": None}
NESTED = {"address": {"city": "Lyon", "zip": {"code": 69001}}, "address_city": "Paris"}


def matches(where: Mapping[str, Any] | None, metadata: Mapping[str, Any], **fields: Any) -> bool:
    """Ask one record, given by its metadata and its own fields."""
    predicate = compile_where(where)
    if predicate is None:
        return True

    def value(name: str) -> Any:
        if name in RECORD_FIELDS:
            return fields.get(name, MISSING)
        return metadata_value(metadata, name)

    return predicate(value)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, True),
        ({"city": "Lyon"}, True),
        ({"city": "lyon"}, False),
        ({"city": {"$eq": "Lyon"}}, True),
        ({"city": {"$eq": "Paris"}}, False),
        ({"city": {"$ne": "Paris"}}, True),
        ({"city": {"$ne": "Lyon"}}, False),
        ({"n": {"$gt": 2}}, True),
        ({"n": {"$gt": 3}}, False),
        ({"n": {"$gte": 3}}, True),
        ({"n": {"$gte": 3.5}}, False),
        ({"n": {"$lt": 4}}, True),
        ({"n": {"$lt": 3}}, False),
        ({"n": {"$lte": 3.0}}, True),
        ({"n": {"$lte": -1}}, False),
        ({"n": {"$gt": 2, "$lt": 4}}, True),
        ({"n": {"$gt": 2, "$lt": 3}}, False),
        ({"city": {"$gt": "Ly", "$lt": "Lz"}}, True),
        ({"city": {"$in": ["Paris", "Lyon"]}}, True),
        ({"city": {"$in": ("Paris", "Lyon")}}, True),
        ({"city": {"$in": []}}, False),
        ({"city": {"$nin": ["Paris", "Rome"]}}, True),
        ({"city": {"$nin": ["Paris", "Lyon"]}}, False),
        ({"city": {"$nin": []}}, True),
        ({"city": {"$exists": True}}, True),
        ({"city": {"$exists": False}}, False),
        ({"nobody": {"$exists": False}}, True),
        ({"nobody": {"$exists": True}}, False),
        ({"city": {"$contains": "yo"}}, True),
        ({"city": {"$contains": "YO"}}, False),
        ({"city": {"$icontains": "YO"}}, True),
        ({"city": {"$contains": ""}}, True),
        ({"tags": {"$contains": "red"}}, True),
        ({"tags": {"$contains": "re"}}, False),
        ({"tags": {"$contains": 7}}, True),
        ({"tags": {"$contains": "7"}}, False),
        ({"tags": {"$icontains": "RED"}}, True),
        ({"tags": {"$icontains": "RE"}}, False),
        ({"n": {"$contains": 3}}, False),
        ({"n": {"$icontains": "3"}}, False),
        ({"city": "Lyon", "n": 3}, True),
        ({"city": "Lyon", "n": 4}, False),
    ],
)
def test_each_operator_does_what_it_says(where: dict[str, Any], expected: bool) -> None:
    assert matches(where, LYON) is expected


def test_no_filter_is_no_predicate() -> None:
    assert compile_where(None) is None


@pytest.mark.parametrize("metadata", [{}, {"city": None}], ids=["missing", "null"])
@pytest.mark.parametrize(
    "condition",
    [
        "Lyon",
        {"$eq": "Lyon"},
        {"$ne": "Lyon"},
        {"$gt": "A"},
        {"$gte": "A"},
        {"$lt": "Z"},
        {"$lte": "Z"},
        {"$in": ["Lyon"]},
        {"$nin": ["Lyon"]},
        {"$nin": []},
        {"$contains": ""},
        {"$icontains": ""},
    ],
    ids=str,
)
def test_a_missing_field_matches_no_comparison(metadata: dict[str, Any], condition: Any) -> None:
    assert not matches({"city": condition}, metadata)
    assert not matches({"city": condition}, metadata | {"town": "Lyon"})


def test_not_around_a_comparison_matches_what_is_missing() -> None:
    assert matches({"$not": {"city": {"$eq": "Lyon"}}}, {})
    assert not matches({"$not": {"city": {"$exists": False}}}, {})


@pytest.mark.parametrize(
    ("value", "operand"), [(True, 1), (False, 0), (1, True), (0, False), (1.0, True)]
)
def test_a_boolean_is_no_number(value: Any, operand: Any) -> None:
    assert not matches({"x": operand}, {"x": value})
    assert matches({"x": {"$ne": operand}}, {"x": value})
    assert not matches({"x": {"$in": [operand]}}, {"x": value})
    assert matches({"x": {"$nin": [operand]}}, {"x": value})
    assert not matches({"x": {"$contains": operand}}, {"x": [value]})
    assert matches({"x": operand}, {"x": operand})


@pytest.mark.parametrize("operator", ["$gt", "$gte", "$lt", "$lte"])
@pytest.mark.parametrize(("value", "operand"), [("10", 9), (10, "9"), (True, 0), ([10], 9)])
def test_values_of_different_types_have_no_order(operator: str, value: Any, operand: Any) -> None:
    assert not matches({"x": {operator: operand}}, {"x": value})


def test_whole_and_decimal_numbers_are_numbers_alike() -> None:
    assert matches({"x": 1}, {"x": 1.0})
    assert matches({"x": {"$gt": 2**53}}, {"x": 2**53 + 1})
    assert matches({"x": {"$lt": float("inf")}}, {"x": 10**300})


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"$and": [{"city": "Lyon"}, {"n": 3}]}, True),
        ({"$and": [{"city": "Lyon"}, {"n": 4}]}, False),
        ({"$or": [{"city": "Paris"}, {"n": 3}]}, True),
        ({"$or": [{"city": "Paris"}, {"n": 4}]}, False),
        ({"$not": {"city": "Paris"}}, True),
        ({"$not": {"city": "Lyon", "n": 4}}, True),
        ({"$not": {"$not": {"city": "Lyon"}}}, True),
        ({"$or": [{"$and": [{"n": 3}, {"$not": {"ok": True}}]}, {"tags": {"$contains": 7}}]}, True),
        ({"$and": [{"$or": [{"n": 1}, {"n": 2}]}, {"city": "Lyon"}]}, False),
        ({"city": "Lyon", "$or": [{"n": 1}, {"n": 3}]}, True),
        ({"city": "Lyon", "$not": {"n": 3}}, False),
        ({"$and": [{}]}, True),
        ({"$not": {}}, False),
    ],
)
def test_filters_combine_to_any_depth(where: dict[str, Any], expected: bool) -> None:
    assert matches(where, LYON) is expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"address.city": "Lyon"}, True),
        ({"address.zip.code": 69001}, True),
        ({"address.zip": 69001}, False),
        ({"address": {"$exists": True}}, True),
        ({"address.street": {"$exists": False}}, True),
        ({"address.city.name": {"$exists": False}}, True),
        ({"address.city.name": {"$ne": "x"}}, False),
        ({"address_city": "Paris"}, True),
        ({"city": "Lyon"}, False),
    ],
)
def test_a_dotted_path_goes_into_metadata(where: dict[str, Any], expected: bool) -> None:
    assert matches(where, NESTED) is expected


def test_a_path_does_not_go_into_lists_and_texts() -> None:
    assert not matches({"a.b": {"$exists": True}}, {"a": [{"b": 1}]})
    assert not matches({"a._0": {"$exists": True}}, {"a": "text"})


# -- times -------------------------------------------------------------------------------------

MOMENT = datetime(2026, 5, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (MOMENT, True),
        (MOMENT.astimezone(timezone(timedelta(hours=9))), True),
        ("2026-05-02T14:00:00+02:00", True),
        ({"$gt": MOMENT}, False),
        ({"$gte": MOMENT}, True),
        ({"$lt": MOMENT + timedelta(microseconds=1)}, True),
        ({"$lte": MOMENT - timedelta(microseconds=1)}, False),
        ({"$gte": "2026-05-01T00:00:00Z", "$lt": "2026-06-01T00:00:00Z"}, True),
        ({"$ne": MOMENT}, False),
        ({"$in": [MOMENT, MOMENT + timedelta(days=1)]}, True),
        ({"$nin": [MOMENT]}, False),
        ({"$exists": True}, True),
    ],
)
def test_at_compares_with_times(condition: Any, expected: bool) -> None:
    assert matches({"at": condition}, {}, at=microseconds(MOMENT)) is expected


@pytest.mark.parametrize(
    "condition",
    [
        datetime(2026, 5, 2),  # noqa: DTZ001
        {"$gt": datetime(2026, 5, 2)},  # noqa: DTZ001
        "2026-05-02",
        "2026-05-02T12:00:00",
        "yesterday",
        1_777_000_000,
        True,
        None,
        {"$in": ["yesterday"]},
        {"$exists": "yes"},
        [MOMENT],
    ],
    ids=str,
)
def test_at_refuses_what_is_no_moment(condition: Any) -> None:
    with pytest.raises(InvalidInputError):
        compile_where({"at": condition})


def test_a_time_in_metadata_is_compared_as_its_iso_text() -> None:
    stored = {"due": MOMENT.isoformat()}

    assert matches({"due": {"$gt": MOMENT - timedelta(hours=1)}}, stored)
    assert not matches({"due": {"$gt": MOMENT}}, stored)
    assert matches({"due": MOMENT.astimezone(timezone(timedelta(hours=-5)))}, stored)


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"n": {"$near": 1}}, r"unknown operator '\$near'; one of \$eq, \$ne"),
        ({"n": {"gte": 1}}, "unknown operator 'gte'"),
        ({"n": {"$GTE": 1}}, "unknown operator"),
        ({"n": {"": 1}}, "unknown operator ''"),
        ({"n": {1: 1}}, "unknown operator 1"),
        ({"n": {"$not": {"$gt": 1}}}, r"unknown operator '\$not'"),
        ({"$nor": [{"n": 1}]}, r"unknown operator '\$nor'; filters combine with \$and"),
        ({"$gt": 1}, r"unknown operator '\$gt'"),
        ({"$and": []}, "at least one filter"),
        ({"$or": {"n": 1}}, "takes a list"),
        ({"$and": [1]}, "must be a mapping, not int"),
        ({"$not": [{"n": 1}]}, "must be a mapping, not list"),
        ({"n": {}}, r"empty; use \{'\$exists': true\}"),
        ({"n": None}, r"to ask for null use \{'\$exists': false\}"),
        ({"n": [1, 2]}, "does not take a list"),
        ({"n": {"$eq": {"a": 1}}}, "does not take a dict"),
        ({"n": {"$in": 3}}, "does not take a int; it takes a list"),
        ({"n": {"$in": "abc"}}, "does not take a str; it takes a list"),
        ({"n": {"$in": [[1]]}}, "takes a list of texts"),
        ({"n": {"$in": [None]}}, "takes a list of texts"),
        ({"n": {"$gt": True}}, "does not take a bool"),
        ({"n": {"$gt": None}}, "takes a number"),
        ({"n": {"$exists": 1}}, "takes true or false"),
        ({"n": {"$icontains": 3}}, "takes a text"),
        ({"n": {"$contains": None}}, r"\$contains"),
        ({1: 2}, "a key of a filter must be a string, not int"),
        ({None: 2}, "not NoneType"),
        ({"kind.x": 1}, "'kind' is a field of the record and has no parts"),
        ([], "must be a mapping, not list"),
        ("city = 'Lyon'", "must be a mapping, not str"),
        (7, "must be a mapping, not int"),
    ],
)
def test_a_malformed_filter_is_refused_with_the_reason(where: Any, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        compile_where(where)


HOSTILE_KEYS = [
    "",
    " ",
    "city ",
    " city",
    "city\n",
    "ci ty",
    "city;",
    "city--",
    "city'",
    'city"',
    "city' OR '1'='1",
    "city'); DROP TABLE records; --",
    "1=1",
    "city=1",
    "json_extract(metadata,'$.city')",
    "metadata->>'city'",
    "city->>'x'",
    "$.city",
    "$",
    "$$",
    "$city",
    "$where",
    "$expr",
    "city[0]",
    "city[*]",
    "*",
    "city.*",
    "..",
    ".",
    ".city",
    "city.",
    "a..b",
    "a.$ne",
    "../../etc/passwd",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "%s",
    "%(city)s",
    "{0.__class__}",
    "city\0",
    "\ud800",
    "\u202ecity",
    "city\u200b",
    "ville-n\u00e9e",
    "1st",
    "a" * 65,
    "a." + "b" * 65,
    "<script>",
    "city#",
    "city/*x*/",
]


@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=ascii)
def test_a_malformed_key_is_refused_and_never_looked_up(key: str) -> None:
    with pytest.raises(FilterError):
        compile_where({key: 1})
    with pytest.raises(FilterError):
        compile_where({"$or": [{"$not": {key: {"$exists": True}}}]})


@pytest.mark.parametrize(
    "key",
    [
        "__class__",
        "__dict__.x",
        "__init__.__globals__",
        "_fields",
        "text",
        "namespace",
        "id",
        "key",
    ],
)
def test_a_key_that_is_an_attribute_or_a_column_elsewhere_is_only_metadata(
    ana: Scope, key: str
) -> None:
    ana.add("I live in Lyon.")

    assert ana.search("Lyon", where={key: {"$exists": True}}) == []
    assert len(ana.search("Lyon", where={key: {"$exists": False}})) == 1


def test_an_error_shows_only_the_start_of_a_long_key() -> None:
    with pytest.raises(FilterError) as caught:
        compile_where({"x y" * 10_000: 1})

    assert len(str(caught.value)) < 250


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> dict[str, Any]:
        return {"n": 1} if depth == 0 else {"$not": nested(depth - 1)}

    assert compile_where(nested(MAX_DEPTH)) is not None
    with pytest.raises(FilterError, match="nested deeper than 8"):
        compile_where(nested(MAX_DEPTH + 1))


def test_a_filter_that_holds_itself_is_refused() -> None:
    where: dict[str, Any] = {}
    where["$and"] = [where]

    with pytest.raises(FilterError, match="deeper"):
        compile_where(where)


def test_a_value_nested_without_end_is_refused() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(FilterError):
        compile_where({"n": {"$in": value}})


@pytest.mark.parametrize("condition", [1, {"$gt": 1}], ids=["bare", "operator"])
def test_as_many_conditions_as_the_bound_are_accepted_and_no_more(condition: Any) -> None:
    assert compile_where({"$or": [{"n": condition}] * (MAX_CONDITIONS - 1)}) is not None
    with pytest.raises(FilterError, match="more than 100 conditions"):
        compile_where({"$or": [{"n": condition}] * (MAX_CONDITIONS + 1)})


# -- against records ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "texts"),
    [
        ({"kind": "event"}, ["moved"]),
        ({"kind": {"$ne": "event"}}, ["hello", "likes tea"]),
        ({"role": "assistant"}, ["hello"]),
        ({"speaker": "Bea"}, ["likes tea"]),
        ({"speaker": {"$ne": "Bea"}}, []),
        ({"speaker": {"$exists": False}}, ["hello", "moved"]),
        ({"session_id": "s1"}, ["hello", "moved"]),
        ({"session_id": {"$in": ["s2"]}}, ["likes tea"]),
        ({"source": "crm"}, ["moved"]),
        ({"importance": {"$gte": 0.7}}, ["moved"]),
        ({"importance": 0.7}, ["moved"]),
        ({"importance": {"$lt": 0.7}}, ["hello", "likes tea"]),
        ({"at": {"$lt": datetime(2020, 1, 1, tzinfo=UTC)}}, ["moved"]),
        ({"n": {"$gte": 2}, "kind": "message"}, ["likes tea"]),
    ],
    ids=str,
)
def test_the_fields_of_a_record_can_be_asked_for(
    ana: Scope, where: dict[str, Any], texts: list[str]
) -> None:
    ana.add_many(
        [
            {"text": "hello", "role": "assistant", "importance": 0.1, "metadata": {"n": 1}},
            {"text": "likes tea", "speaker": "Bea", "session_id": "s2", "metadata": {"n": 2}},
            {
                "text": "moved",
                "kind": "event",
                "source": "crm",
                "importance": 0.7,
                "at": datetime(2019, 5, 1, tzinfo=UTC),
            },
        ]
    )

    assert sorted(hit.record.text for hit in ana.search("tea", where=where)) == texts


def test_a_name_matches_in_either_unicode_form(ana: Scope) -> None:
    ana.add("likes tea", speaker="Jos\u00e9")

    assert len(ana.search("tea", where={"speaker": "Jose\u0301"})) == 1


def test_k_are_found_whenever_k_match(ana: Scope) -> None:
    ana.add_many({"text": f"Lyon {i}", "metadata": {"i": i}} for i in range(300))

    assert len(ana.search("Lyon", k=7, where={"i": {"$lt": 7}})) == 7
    assert len(ana.search("nothing alike", k=20, where={"i": {"$gte": 250}})) == 20


# -- against a second evaluator ----------------------------------------------------------------


def _sort(value: Any) -> str:
    """Name the JSON type of a value; bool before int, whose subclass it is."""
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def _same(one: Any, other: Any) -> bool:
    return _sort(one) == _sort(other) and one == other


def _compare(operator: str, value: Any, operand: Any) -> bool:
    if operator in ("$in", "$nin"):
        among = len([1 for one in operand if _same(value, one)]) > 0
        return among if operator == "$in" else not among
    if operator in ("$eq", "$ne"):
        return _same(value, operand) == (operator == "$eq")
    if operator == "$contains":
        if _sort(value) == "list":
            return len([1 for one in value if _same(one, operand)]) > 0
        return _sort(value) == _sort(operand) == "text" and value.find(operand) >= 0
    if operator == "$icontains":
        if _sort(value) == "list":
            texts = [one.casefold() for one in value if _sort(one) == "text"]
            return operand.casefold() in texts
        return _sort(value) == "text" and operand.casefold() in value.casefold()
    if _sort(value) != _sort(operand) or _sort(value) not in ("number", "text"):
        return False
    difference = (value > operand) - (value < operand)
    return difference in {"$gt": (1,), "$gte": (0, 1), "$lt": (-1,), "$lte": (-1, 0)}[operator]


def holds(where: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Evaluate a filter by walking it, one record at a time: slow and plain."""
    for key, condition in where.items():
        if key == "$and":
            good = sum(holds(part, metadata) for part in condition) == len(condition)
        elif key == "$or":
            good = sum(holds(part, metadata) for part in condition) > 0
        elif key == "$not":
            good = not holds(condition, metadata)
        else:
            value: Any = metadata
            for step in key.split("."):
                value = value.get(step) if isinstance(value, dict) else None
            tests = condition if isinstance(condition, dict) else {"$eq": condition}
            good = True
            for operator, operand in tests.items():
                if operator == "$exists":
                    good = good and (value is not None) == operand
                else:
                    good = good and value is not None and _compare(operator, value, operand)
        if not good:
            return False
    return True


SCALARS = (
    st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.5, 1.0, -2.0])
    | st.sampled_from(["", "a", "A", "ab", "b", "\u00df", "SS"])
)
VALUES = SCALARS | st.none() | st.lists(SCALARS, max_size=3)
METADATA = st.dictionaries(
    st.sampled_from("abc"),
    VALUES | st.dictionaries(st.sampled_from("ab"), VALUES, max_size=2),
    max_size=3,
)
KEYS = st.sampled_from(["a", "b", "c", "a.a", "a.b", "b.a", "c.b.a"])
ORDERED = st.integers(-2, 2) | st.sampled_from([0.5, "", "a", "b"])
CONDITIONS = SCALARS | st.fixed_dictionaries(
    {},
    optional={
        "$eq": SCALARS,
        "$ne": SCALARS,
        "$gt": ORDERED,
        "$gte": ORDERED,
        "$lt": ORDERED,
        "$lte": ORDERED,
        "$in": st.lists(SCALARS, max_size=3),
        "$nin": st.lists(SCALARS, max_size=3),
        "$exists": st.booleans(),
        "$contains": SCALARS,
        "$icontains": st.sampled_from(["", "a", "ss"]),
    },
).filter(bool)
FILTERS = st.recursive(
    st.dictionaries(KEYS, CONDITIONS, max_size=2),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "$and": st.lists(inner, min_size=1, max_size=2),
            "$or": st.lists(inner, min_size=1, max_size=2),
            "$not": inner,
            "a": CONDITIONS,
        },
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(FILTERS, METADATA)
@example({"a": {"$ne": 1}}, {"a": True})
@example({"a": {"$nin": [0]}}, {"a": False})
@example({"$not": {"a.b": {"$ne": "a"}}}, {"a": "b"})
def test_every_filter_agrees_with_a_plain_evaluator(
    where: dict[str, Any], metadata: dict[str, Any]
) -> None:
    assert matches(where, metadata) is holds(where, metadata)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(FILTERS, METADATA)
def test_a_filter_and_its_negation_split_the_records(
    where: dict[str, Any], metadata: dict[str, Any]
) -> None:
    assert matches(where, metadata) is not matches({"$not": where}, metadata)


def test_metadata_named_as_a_field_of_the_record_are_reached_by_their_full_name(
    ana: Scope,
) -> None:
    ana.add("red", metadata={"kind": "wine", "page": 1})
    ana.add("white", metadata={"kind": "tea", "metadata": {"page": 1}})

    def found(where: dict[str, Any]) -> set[str]:
        return {hit.record.text for hit in ana.search("wine or tea", where=where)}

    assert found({"metadata.kind": "wine"}) == {"red"}
    assert found({"metadata.kind": {"$ne": "wine"}}) == {"white"}
    assert found({"kind": "wine"}) == set()
    assert found({"metadata.page": 1}) == {"red", "white"}
