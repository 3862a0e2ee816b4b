"""Secrets out of a text before it is stored."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_memory import HybridMemory
from hybrid_memory.errors import InvalidInputError
from hybrid_memory.redaction import redact_secrets
from hybrid_memory.testing import HashEmbedder, LineSplitter, ManualClock

_random = random.Random(7)


def _of(signs: str, count: int) -> str:
    # Made here: a test file with keys that look real is what scanners of repositories look for.
    return "aB3" + "".join(_random.choice(signs) for _ in range(count - 3))


WORD = string.ascii_letters + string.digits
AWS = "AK" + "IA" + "QX7B2MZLP4W6TRCN"
KEY = (
    "-----BEGIN {0}PRIVATE "
    + "KEY-----\n"
    + f"{_of(WORD, 64)}\n" * 3
    + "-----END {0}PRIVATE KEY-----"
)

SECRETS = [
    ("openai key", "sk-" + _of(WORD, 48)),
    ("openai key", "sk-proj-" + _of(WORD + "_-", 100) + "x"),
    ("openai key", "sk-svcacct-" + _of(WORD, 60)),
    ("anthropic key", "sk-ant-api03-" + _of(WORD + "_-", 90) + "x"),
    ("openrouter key", "sk-or-v1-" + "0f" * 32),
    ("aws key", AWS),
    ("github token", "gh" + "p_" + _of(WORD, 36)),
    ("github token", "github_pat_" + _of(WORD, 22) + "_" + _of(WORD, 59)),
    ("gitlab token", "glpat-" + _of(WORD, 20)),
    ("slack token", "xox" + "b-123456789012-123456789012-" + _of(WORD, 24)),
    ("slack webhook", "https://hooks.slack.com/services/T0AAAAAAA/B0AAAAAAA/" + _of(WORD, 24)),
    ("google key", "AI" + "za" + _of(WORD, 35)),
    ("google secret", "GOCSPX-" + _of(WORD, 28)),
    ("google token", "ya29." + _of(WORD, 80)),
    ("stripe key", "sk_" + "live_" + _of(WORD, 24)),
    ("hugging face token", "hf_" + _of(string.ascii_letters, 34)),
    ("npm token", "npm_" + _of(WORD, 36)),
    ("pypi token", "pypi-AgE" + _of(WORD, 80)),
    ("sendgrid key", "SG." + _of(WORD, 22) + "." + _of(WORD, 43)),
    ("telegram token", "123456789:AA" + _of(WORD, 33)),
    ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + _of(WORD, 43)),
    ("private key", KEY.format("RSA ")),
    ("private key", KEY.format("OPENSSH ")),
    ("private key", KEY.format("").replace("\n", "\\n")),
    ("private key", KEY.format("EC ").partition("-----END")[0].strip()),
    ("card number", "4539 1488 0343 6467"),
    ("card number", "5425-2334-3010-9903"),
    ("card number", "378282246310005"),
    ("card number", "3782 822463 10005"),
    ("card number", "6011000990139424"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB29NWBK60161331926819"),
    ("iban", "FR14 2004 1010 0505 0001 3M02 606"),
    ("iban", "NO93 8601 1117 947"),
    ("iban", "CH93 0076 2011 6238 5295 7"),
]  # fmt: skip

HARMLESS = [
    "order 4539148803436467",
    "Order no. 4539 1488 0343 6467 is on its way",
    "tracking number: 5425233430109903",
    "4539 1488 0343 6468",  # not Luhn's
    "1234 5678 9012 3456",
    "4444444444444444",
    "0000 0000 0000 0000",
    "20260502153000",
    "1777777777777777",
    "3.141592653589793",
    "IMEI 490154203237518",
    "+49 170 1234567",
    "+1 (555) 010-9999, 0033 6 12 34 56 78",
    "5501 2345 6789",
    "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    "d670460b4b4aece5915caf5c68d12f560a9fe3e4",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sk-learn and sk-SK are no keys, nor is sk-this-is-a-long-name-of-a-css-class-with-words",
    "a task-management-and-planning-application-for-everybody-in-the-team",
    "AKIAAAAAAAAAAAAAAAAA",
    "AKIA is the prefix of AWS keys",
    "ghp_short, gho_, hf_hub_download, hf_transformers_model_loading_utility_1",
    "eyJhbGciOiJIUzI1NiJ9 alone",
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----",
    "A file begins with -----BEGIN PRIVATE KEY----- and I keep mine safe.",
    "DE89 3704 0044 0532 0130 01",  # another checksum
    "DE12 rooms, GB29 and NL91",
    "ISBN 978-3-16-148410-0",
    "https://example.org:8080/path@2",
    "git@github.com:ana/repo.git",
    "postgres://localhost:5432/memory",
    "ratio 16:9@60",
    "My password is secret.",
    "5425 2334",
    "192.168.100.200, 2001:0db8:85a3:0000:0000:8a2e:0370:7334",
    "version 4.539148803436467",
    "id=4539148803436467",
]


@pytest.mark.parametrize(("name", "secret"), SECRETS)
@pytest.mark.parametrize("around", ["{}", "It is {}.", 'KEY="{}"', '{{"a": "{}"}}', "({}), ok"])
def test_a_secret_is_replaced_by_what_it_was(name: str, secret: str, around: str) -> None:
    assert redact_secrets(around.format(secret)) == around.format(f"[redacted: {name}]")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert redact_secrets(text) == text


def test_of_a_setting_only_the_value_goes() -> None:
    secret = _of(WORD + "/+", 39) + "x"

    assert redact_secrets(f"aws_secret_access_key = {secret}\nregion = eu") == (
        "aws_secret_access_key = [redacted: aws secret]\nregion = eu"
    )
    assert redact_secrets("postgres://ana:hunter2!@db/x") == (
        "postgres://ana:[redacted: password in address]@db/x"
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.one_of(st.text(max_size=20), st.sampled_from([s for _, s in SECRETS])), max_size=6)
)
def test_a_second_time_changes_nothing(parts: list[str]) -> None:
    once = redact_secrets(" ".join(parts))

    assert redact_secrets(once) == once


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.uuids(), st.binary(min_size=20, max_size=20))
def test_ids_and_hashes_stay(uuid: Any, digest: bytes) -> None:
    text = f"{uuid} {digest.hex()} {uuid.hex}"

    assert redact_secrets(text) == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit",
    [
        "-----BEGIN PRIVATE KEY-----\n",
        "a://b:",
        "eyJaaaaaaaaaa.eyJ",
        "4539 ",
        "DE89 ",
        "sk-",
        "1",
        " ",
    ],
)
def test_the_largest_text_takes_little_time(unit: str) -> None:
    text = (unit * 65536)[:65536]

    assert len(redact_secrets(text)) > 0


# -- as a part of a memory -----------------------------------------------------------------------


def _opened(path: Path, redact: Any = redact_secrets) -> HybridMemory:
    return HybridMemory.open(
        path,
        embedder=HashEmbedder(),
        splitter=LineSplitter(),
        clock=ManualClock(),
        count_tokens=len,
        durability="normal",
        redact=redact,
    )


def _bytes(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())


def test_no_byte_of_a_secret_reaches_the_disk_by_any_way_in(tmp_path: Path) -> None:
    note = tmp_path / "note.md"
    note.write_text(f"# Notes\nThe key is {AWS}.\n", encoding="utf-8")
    with _opened(tmp_path / "memory") as memory:
        ana = memory.scope(user_id="ana", session_id="s1")
        ana.add(f"my key is {AWS}", metadata={"a": [AWS]}, data={"b": {"c": AWS}})
        call = {"id": "1", "function": {"name": "f", "arguments": json.dumps({"key": AWS})}}
        ana.add_messages(
            [
                {"role": "user", "content": [{"type": "text", "text": AWS}]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": AWS, "tool_call_id": "1"},
            ]
        )
        ana.add_fact({"intent": "credential", "aws": AWS})
        ana.add_event(f"Lost {AWS}")
        ana.add_instruction(f"Use {AWS}")
        ana.add_documents([f"Text with {AWS}"], source="a.md")
        ana.add_documents(note)
        ana.profile["key"] = {"aws": [AWS]}
        kept = ana.add("nothing")
        ana.update(kept.id, text=f"now {AWS}", metadata={"a": AWS})

        assert ana.profile["key"] == {"aws": ["[redacted: aws key]"]}
        assert ana.get(kept.id).text == "now [redacted: aws key]"
        assert ana.messages()[0].text == "my key is [redacted: aws key]"

    assert AWS.encode() not in _bytes(tmp_path / "memory")


def test_an_import_is_redacted_and_can_be_repeated(tmp_path: Path) -> None:
    with _opened(tmp_path / "open", redact=None) as memory:
        ana = memory.scope(user_id="ana")
        ana.add(f"my key is {AWS}")
        ana.profile["key"] = AWS
        ana.export(tmp_path / "export.jsonl", vectors=True)

    with _opened(tmp_path / "closed") as memory:
        first, second = (memory.import_(tmp_path / "export.jsonl") for _ in range(2))
        texts = [hit.record.text for hit in memory.scope(user_id="ana").search("key")]

    assert (first.added, first.profile_keys) == (1, 1)
    assert (second.unchanged, second.added) == (1, 0)
    assert texts == ["my key is [redacted: aws key]"]
    assert AWS.encode() not in _bytes(tmp_path / "closed")


def test_the_encoder_gets_no_secret(tmp_path: Path) -> None:
    class Listening(HashEmbedder):
        heard: list[str] = []  # noqa: RUF012

        def embed(self, texts: Any) -> Any:
            self.heard.extend(texts)
            return super().embed(texts)

    with HybridMemory.open(
        tmp_path / "memory", embedder=Listening(), redact=redact_secrets, count_tokens=len
    ) as memory:
        memory.scope(user_id="ana").add(f"my key is {AWS}")

    assert Listening.heard
    assert not any(AWS in text for text in Listening.heard)


def test_what_redact_returns_is_checked(tmp_path: Path) -> None:
    for name, returned, problem in (("a", None, "a string, not NoneType"), ("b", "", "empty")):
        with (
            _opened(tmp_path / name, redact=lambda text, said=returned: said) as memory,
            pytest.raises(InvalidInputError, match=problem),
        ):
            memory.scope(user_id="ana").add("hello")
