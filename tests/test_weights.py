"""What the merger is set to: checked when it is made, saved, and loaded as it was."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_memory import HybridMemory, HybridMemoryError, Scope, Weights
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.testing import HashEmbedder, ManualClock, MemoryRecordStore

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)
NAMES = [field.name for field in fields(Weights)]
FRACTIONS = [name for name in NAMES if name not in ("recency_by", "half_life_days")]

WEIGHTS = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.floats(0, 1) for name in FRACTIONS},
        "recency_by": st.sampled_from(["age", "rank"]),
        "half_life_days": st.floats(0, 1e6, exclude_min=True, exclude_max=True),
    },
).filter(lambda values: values.get("cosine", 0.6) + values.get("bm25", 0.5) > 0)


# -- a value -----------------------------------------------------------------------------------


def test_weights_are_a_value() -> None:
    weights = Weights(cosine=0.5)

    assert weights == Weights(cosine=0.5) != Weights()
    assert hash(weights) == hash(Weights(cosine=0.5))
    assert replace(weights, cosine=0.6) == Weights()
    with pytest.raises(FrozenInstanceError):
        weights.cosine = 0.7  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        weights.colour = 1  # type: ignore[attr-defined]


def test_age_and_importance_count_for_nothing_unless_they_are_asked_for() -> None:
    assert (Weights().recency, Weights().importance, Weights().min_share) == (0, 0, 0)


OUTSIDE = [-0.1, 1.1, float("nan"), float("inf"), -float("inf"), 60, 10**40]


@pytest.mark.parametrize("value", OUTSIDE)
def test_a_weight_outside_0_to_1_is_refused_by_name(value: float) -> None:
    for name in FRACTIONS:
        with pytest.raises(InvalidInputError, match=f"weight {name} must be between 0 and 1"):
            Weights(**{name: value})


@pytest.mark.parametrize("value", ["0.5", None, [1], True, 1j, np.float32(0.5)], ids=repr)
def test_a_weight_that_is_no_number_is_refused_by_name(value: Any) -> None:
    for name in FRACTIONS:
        with pytest.raises(InvalidInputError, match=f"weight {name} must be a number, not "):
            Weights(**{name: value})


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 5e-324])
def test_the_ends_are_weights_too(value: float) -> None:
    for name in FRACTIONS:
        assert getattr(Weights(**{name: value}), name) == value


def test_one_of_meaning_and_words_must_count() -> None:
    with pytest.raises(InvalidInputError, match="cosine and bm25 are 0; give one of them some"):
        Weights(cosine=0, bm25=0)


@pytest.mark.parametrize(
    "value", [0, -1, 1e6, float("nan"), float("inf"), 10**400, True, "30", None, [30]], ids=repr
)
def test_a_half_life_that_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="half_life_days must be above 0 and below 1e6"):
        Weights(half_life_days=value)


@pytest.mark.parametrize("value", [1, 0.01, 5e-324, 999_999.9])
def test_a_half_life_may_be_of_seconds_or_of_ages(value: float) -> None:
    weights = Weights(half_life_days=value, recency=1)
    with HybridMemory(
        MemoryRecordStore(), embedder=HashEmbedder(), clock=ManualClock(), weights=weights
    ) as memory:
        ana = memory.scope(user_id="ana")
        ana.add("I drink tea.")

        [hit] = ana.search("tea")

    assert 0 < hit.score <= 1


@pytest.mark.parametrize("value", ["Age", "", None, 1, ["age"], ("age", "rank")], ids=repr)
def test_age_is_measured_in_one_of_two_ways(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="recency_by is 'age' or 'rank', not "):
        Weights(recency_by=value)


# -- as JSON -----------------------------------------------------------------------------------


@PROPERTY
@given(WEIGHTS)
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, values: Any) -> None:
    path = tmp_path_factory.mktemp("weights") / "weights.json"
    weights = Weights(**values)

    weights.save(path)

    assert Weights.load(path) == weights
    assert Weights.from_json(path.read_text("utf-8")) == weights
    assert Weights.from_json(asdict(weights)) == weights
    assert list(json.loads(path.read_text("utf-8"))) == NAMES


@PROPERTY
@given(WEIGHTS)
def test_a_part_of_the_weights_leaves_the_others_at_their_defaults(values: Any) -> None:
    weights = Weights.from_json(json.dumps(values))

    assert weights == Weights(**values)
    for name in set(NAMES) - set(values):
        assert getattr(weights, name) == getattr(Weights(), name)


def test_an_empty_object_is_the_defaults() -> None:
    assert Weights.from_json("{}") == Weights.from_json({}) == Weights()


def test_a_file_is_saved_over_and_named_by_a_text_too(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    Weights(cosine=1, half_life_days=99.123456789).save(str(path))
    Weights(cosine=0.25).save(str(path))

    assert Weights.load(str(path)) == Weights(cosine=0.25)
    assert path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cosin", "cosine"),
        ("bm_25", "bm25"),
        ("halflife", "half_life_days"),
        ("recency_floo", "recency_floor"),
        ("user", None),
        ("", None),
        ("\u00e9", None),
    ],
)
def test_an_unknown_weight_names_the_nearest(name: str, meant: str | None) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Weights.from_json({"cosine": 0.5, name: 0.5})

    assert f"there is no weight {name!r}; do you mean " in str(caught.value)
    assert any(repr(known) in str(caught.value) for known in NAMES)
    assert meant is None or repr(meant) in str(caught.value)


def test_a_key_that_is_no_text_is_unknown() -> None:
    with pytest.raises(InvalidInputError, match="there is no weight 7"):
        Weights.from_json({7: 0.5})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "source",
    ["", "cosine", "{", '{"cosine": }', "[]", "[0.5]", "7", '"cosine"', "null", "\ufeff{}"],
)
def test_what_is_no_json_object_is_refused(source: str) -> None:
    with pytest.raises(InvalidInputError, match=r"weights (are not a JSON|must be an) object"):
        Weights.from_json(source)


@pytest.mark.parametrize("source", [None, 7, ["cosine"], object()], ids=["None", "7", "list", "o"])
def test_what_is_no_object_at_all_is_refused(source: Any) -> None:
    with pytest.raises(InvalidInputError, match="weights are not a JSON object"):
        Weights.from_json(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('{"cosine": "0.5"}', "weight cosine must be a number, not str"),
        ('{"cosine": null}', "weight cosine must be a number, not NoneType"),
        ('{"cosine": true}', "weight cosine must be a number, not bool"),
        ('{"cosine": NaN}', "weight cosine must be between 0 and 1: nan"),
        ('{"session": 1e400}', "weight session must be between 0 and 1: inf"),
        ('{"half_life_days": 1e400}', "half_life_days must be above 0"),
        ('{"recency_by": ["age"]}', "recency_by is 'age' or 'rank'"),
        ('{"cosine": 0, "bm25": 0}', "give one of them some"),
    ],
)
def test_a_value_is_checked_when_it_is_read(source: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Weights.from_json(source)


def test_json_of_great_depth_is_refused() -> None:
    with pytest.raises(HybridMemoryError):
        Weights.from_json("[" * 200_000)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes(b'{"cosine": "\xe9"}')
    (tmp_path / "half.json").write_text('{"cosine": 0.5,')

    for name, message in [
        ("missing.json", "cannot read weights from"),
        ("", "cannot read weights from"),
        ("latin.json", "cannot read weights from"),
        ("half.json", "not a JSON object"),
    ]:
        with pytest.raises(InvalidInputError, match=message) as caught:
            Weights.load(tmp_path / name)
        assert name in str(caught.value) or name == "half.json"


# -- in use ------------------------------------------------------------------------------------


def _ranked(weights: Weights | None) -> list[str]:
    clock = ManualClock()
    with HybridMemory(
        MemoryRecordStore(), embedder=HashEmbedder(), clock=clock, weights=weights
    ) as memory:
        ana: Scope = memory.scope(user_id="ana")
        ana.add("I drink green tea.")
        clock.advance(days=400)
        ana.add("I drink black tea at noon.")
        return [hit.record.text for hit in ana.search("Do I drink green tea?")]


def test_a_memory_is_opened_with_weights() -> None:
    old, new = "I drink green tea.", "I drink black tea at noon."

    assert _ranked(None) == _ranked(Weights()) == [old, new]
    assert _ranked(Weights(recency=1, recency_floor=0)) == [new, old]


def test_loaded_weights_rank_as_the_saved_ones(tmp_path: Path) -> None:
    weights = Weights(recency=1, recency_floor=0)

    weights.save(tmp_path / "weights.json")

    assert _ranked(Weights.load(tmp_path / "weights.json")) == _ranked(weights)
