import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest

from hybrid_memory import HybridMemory, __version__
from hybrid_memory.cli import main
from hybrid_memory.evaluation import METRICS
from hybrid_memory.testing import HashEmbedder
from hybrid_memory.words import content_words
from tests.openai_server import Failure, OpenAIServer

COMMAND = [sys.executable, "-c", "import sys; from hybrid_memory.cli import main; sys.exit(main())"]


@dataclass
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs the command line in an empty directory, as the user ana, without a model."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "HYBRID_MEMORY_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HYBRID_MEMORY_USER", "ana")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)

    def run(*arguments, stdin=""):
        content = stdin if isinstance(stdin, bytes) else stdin.encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        code = main(arguments)
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def fails(run):
    """Runs what is a user's mistake and returns the one line that says so."""

    def fails(*arguments, stdin=""):
        ran = run(*arguments, stdin=stdin)
        assert ran.code == 2
        assert ran.out == ""
        assert ran.err.endswith("\n")
        assert ran.err.count("\n") == 1
        return ran.err

    return fails


@pytest.fixture
def told(run):
    """A store in which ana said three things."""
    run("add", "I am allergic to hazelnuts.", "--id", "nuts")
    run("add", "I cycle to work.", "--id", "bike", "--metadata", '{"city": "Lyon"}')
    run("add", "Signed the lease", "--kind", "event", "--at", "2026-05-02T15:30+02:00")


# -- what comes out ------------------------------------------------------------------------


def test_add_prints_the_id_of_what_is_remembered(run):
    added = run("add", "I like tea.")

    assert added.code == 0
    with HybridMemory.open("memory") as memory:
        assert memory.scope(user_id="ana").get(added.out.strip()).text == "I like tea."


def test_prune_shows_what_it_would_delete_and_deletes_with_yes(run, told):
    dry = run("prune", "--max-records", "1", "--older-than", "2w", "--now", "2026-05-20T00:00Z")
    assert dry.code == 0
    assert "older than 14 days" in dry.out
    assert "least worth of 3, 1 are kept" in dry.out
    assert "would delete 2" in dry.out
    assert json.loads(run("stats", "--json").out)["records"]["message"] == 2

    done = run("prune", "--max-records", "1", "--yes")
    assert "deleted 2; 1 records of" in done.out
    assert sum(json.loads(run("stats", "--json").out)["records"].values()) == 1
    assert run("prune", "--max-records", "1").out.startswith("nothing to prune; there are 1 ")


def test_prune_tells_all_as_json(run, told):
    pruned = json.loads(run("prune", "--kind", "event", "--max-records", "0", "--json").out)

    assert pruned["dry_run"] is True
    assert pruned["reasons"] == {"least worth of 1, 0 are kept": 1}
    (victim,) = pruned["victims"]
    assert (victim["kind"], victim["at"]) == ("event", "2026-05-02T13:30:00+00:00")
    assert pruned["freed"] == victim["bytes"]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--older-than", "soon", "write 90d"),
        ("--older-than", "0d", "longer than nothing"),
        ("--older-than", "99999999999d", "write 90d"),
        ("--max-records", "-1", "at least 0"),
        ("--importance-below", "2", "between 0 and 1"),
        ("--kind", "profile", "unknown kind"),
    ],
)
def test_a_bound_that_is_none_is_refused(fails, told, option, value, said):
    assert said in fails("prune", option, value)


def test_add_keeps_every_option_on_the_record(run):
    ran = run(
        *("add", "Signed the lease", "--kind", "event", "--speaker", "Ana", "--session", "s1"),
        *("--at", "2026-05-02T15:30+02:00", "--id", "lease", "--metadata", '{"city": "Lyon"}'),
        "--json",
    )
    record = json.loads(ran.out)

    assert record["id"] == "lease"
    assert record["kind"] == "event"
    assert record["speaker"] == "Ana"
    assert record["session_id"] == "s1"
    assert record["at"] == "2026-05-02T13:30:00+00:00"
    assert record["metadata"] == {"city": "Lyon"}


def test_a_dash_reads_the_text_from_stdin(run):
    run("add", "-", "--id", "tea", stdin="I like tea.\nGreen, mostly.\n")

    with HybridMemory.open("memory") as memory:
        assert memory.scope(user_id="ana").get("tea").text == "I like tea.\nGreen, mostly."


def test_search_shows_a_column_for_each_signal(run, told):
    ran = run("search", "What am I allergic to?", "--k", "2")
    header, _, first, *_ = (line for line in ran.out.splitlines() if line.strip())

    names = header.split()
    assert names[:4] == ["#", "score", "cosine", "bm25"]
    assert names[-3:] == ["when", "kind", "text"]
    assert "I am allergic to hazelnuts." in first


def test_the_signals_in_the_json_of_a_search_add_up_to_the_score(run, told):
    hits = json.loads(run("search", "What am I allergic to?", "--json").out)

    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0]["record"]["id"] == "nuts"
    for hit in hits:
        assert sum(hit["signals"].values()) == pytest.approx(hit["score"])


def test_why_tells_the_place_of_a_record_and_what_it_has(run, told):
    found = json.loads(run("why", "What am I allergic to?", "nuts", "--json").out)
    bike = json.loads(run("why", "What am I allergic to?", "bike", "--k", "1", "--json").out)

    assert (found["rank"], found["reason"], found["record"]["id"]) == (1, "", "nuts")
    assert bike["rank"] is None
    assert "1 were asked for" in bike["reason"]
    assert all(value > 0 for value in bike["lacked"].values())
    assert found["query"]["words"] == content_words("allergic")


def test_why_shows_a_table(run, told):
    shown = run("why", "What am I allergic to?", "bike", "--k", "1").out

    assert "cosine" in shown
    assert "1 were asked for" in shown


def test_delete_says_how_many_were_there(run, told):
    ran = run("delete", "nuts", "nobody")

    assert ran.out == "deleted 1 of 2\n"
    assert "hazelnuts" not in run("search", "What am I allergic to?").out


def test_search_takes_kinds_and_a_filter(run, told):
    events = json.loads(run("search", "lease", "--kind", "event", "--json").out)
    lyon = json.loads(run("search", "work", "--where", '{"city": "Lyon"}', "--json").out)

    assert [hit["record"]["text"] for hit in events] == ["Signed the lease"]
    assert [hit["record"]["id"] for hit in lyon] == ["bike"]


def test_a_search_without_hits_says_whose_memory_was_searched(run, told):
    ran = run("search", "hazelnuts", "--user", "ben")

    assert ran.code == 0
    assert ran.out == ""
    assert "'ben'" in ran.err


def test_a_search_reads_the_scopes_that_are_named(run, told):
    hits = json.loads(run("search", "nuts", "--user", "ben", "--read", "ana", "--json").out)

    assert "nuts" in [hit["record"]["id"] for hit in hits]


def test_context_has_three_forms(run, told):
    question = "What am I allergic to?"
    system = run("context", question).out
    messages = json.loads(run("context", question, "--format", "messages").out)
    whole = json.loads(run("context", question, "--format", "json").out)

    assert "hazelnuts" in system
    assert messages[-1] == {"role": "user", "content": question}
    assert "nuts" in [item["id"] for item in whole["memories"]]
    assert json.loads(run("context", question, "--json").out) == whole


def test_context_keeps_to_the_budget_and_the_gate(run, told):
    short = json.loads(run("context", "lease", "--max-tokens", "60", "--json").out)
    shut = json.loads(run("context", "lease", "--gate", '{"memory_allowed": false}', "--json").out)

    assert short["tokens"] <= 60
    assert shut["memories"] == []


def test_learn_takes_files_and_folders(run, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "menu.md").write_text("# Menu\n\nLentils on Mondays.\n")
    (folder / "expenses.txt").write_text("Expenses are paid on the fifth.\n")
    (tmp_path / "readme.md").write_text("Read me.\n")

    ran = run("learn", "docs", "readme.md", "--metadata", '{"lang": "en"}')
    hits = json.loads(run("search", "When are expenses paid?", "--k", "1", "--json").out)

    assert ran.out == "3 chunks of 3 files\n"
    assert hits[0]["record"]["source"] == "docs/expenses.txt"
    assert hits[0]["record"]["metadata"] == {"lang": "en"}


def test_stats_count_by_kind(run, told):
    values = json.loads(run("stats", "--json").out)
    shown = run("stats").out

    assert values["records"]["message"] == 2
    assert values["records"]["event"] == 1
    assert values["first_at"] == "2026-05-02T13:30:00+00:00"
    assert "2 message, 1 event" in shown


def test_the_store_and_the_user_come_from_the_environment(run, monkeypatch):
    monkeypatch.setenv("HYBRID_MEMORY_STORE", "elsewhere")
    monkeypatch.setenv("HYBRID_MEMORY_USER", "ben")
    run("add", "I like tea.", "--id", "tea")

    with HybridMemory.open("elsewhere") as memory:
        assert memory.scope(user_id="ben").get("tea").text == "I like tea."


def test_the_version_is_that_of_the_package(run):
    ran = run("--version")

    assert (ran.code, ran.out) == (0, f"hybrid-memory {__version__}\n")


def test_a_stored_escape_sequence_does_not_reach_the_screen(run):
    run("add", "red \x1b[31malert\x07")

    assert "\x1b" not in run("search", "red alert").out


# -- ways out and in -----------------------------------------------------------------------


def test_what_is_exported_can_be_imported_elsewhere_and_again(run, told):
    run("add", "I am Bob.", "--user", "bob")

    out = run("export", "all.jsonl", "--vectors")
    first = run("import", "all.jsonl", "--store", "other")
    again = run("import", "all.jsonl", "--store", "other", "--json")

    assert out.out == "4 records\n"
    assert first.out == "4 added, 0 replaced, 0 unchanged, 0 skipped, 0 profile keys\n"
    assert json.loads(again.out)["unchanged"] == 4
    assert "hazelnuts" in run("search", "allergic", "--store", "other").out
    assert "Bob" in run("search", "Bob", "--store", "other", "--user", "bob").out


def test_an_export_of_one_user_goes_to_stdout_and_comes_from_stdin(run, told):
    run("add", "I am Bob.", "--user", "bob")

    out = run("export", "-", "--user", "bob")
    run("import", "-", "--user", "carol", stdin=out.out)

    assert (len(out.out.splitlines()), out.err) == (2, "1 records\n")
    assert json.loads(run("stats", "--user", "carol", "--json").out)["records"]["message"] == 1


def test_another_librarys_memories_are_imported(run, tmp_path):
    memories = [{"id": "m1", "memory": "Likes hiking", "user_id": "ana"}]
    (tmp_path / "mem0.json").write_text(json.dumps({"results": memories}))

    imported = run("import", "mem0.json", "--from", "mem0", "--json")

    assert json.loads(imported.out)["added"] == 1
    assert "Likes hiking" in run("search", "hiking").out


def test_a_conflict_names_the_line_and_can_be_settled(run, fails, told):
    run("export", "all.jsonl")
    run("delete", "nuts")
    run("add", "I eat everything.", "--id", "nuts")

    line = fails("import", "all.jsonl")
    settled = run("import", "all.jsonl", "--on-conflict", "replace", "--json")

    assert "line 2" in line
    assert "hazelnuts" not in line
    assert json.loads(settled.out)["replaced"] == 1


def test_a_backup_is_a_store_that_nothing_is_written_over(run, fails, told):
    done = run("backup", "copy")

    assert done.out == "copy\n"
    assert "hazelnuts" in run("search", "allergic", "--store", "copy").out
    assert "not empty" in fails("backup", "copy")


def test_a_store_of_another_embedder_can_be_exported_and_backed_up(run, tmp_path):
    with HybridMemory.open(tmp_path / "memory", embedder=HashEmbedder()) as memory:
        memory.scope(user_id="ana").add("I like tea.")

    assert run("export", "all.jsonl").out == "1 records\n"
    assert run("backup", "copy").code == 0


# -- asking a model ------------------------------------------------------------------------


@pytest.fixture
def model(run, monkeypatch):
    with OpenAIServer(reply="No hazelnuts for you.") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server


@pytest.mark.server
def test_ask_gives_the_model_what_is_remembered_and_prints_its_answer(run, told, model):
    ran = run("ask", "What am I allergic to?")

    assert (ran.code, ran.out) == (0, "No hazelnuts for you.\n")
    assert "I am allergic to hazelnuts." in str(model.requests[0]["messages"])


@pytest.mark.server
def test_ask_prints_json_with_the_context_and_the_tokens(run, told, model):
    answer = json.loads(run("ask", "What am I allergic to?", "--json").out)

    assert answer["text"] == "No hazelnuts for you."
    assert answer["context"]["memories"][0]["text"]
    assert answer["usage"]["completion_tokens"] == 4


@pytest.mark.server
def test_a_chat_answers_each_line_and_remembers_it(run, model):
    ran = run("chat", "--session", "evening", stdin="Can I eat this?\nAnd that?\n\nnot read\n")

    assert ran.out == "No hazelnuts for you.\n" * 2
    with HybridMemory.open("memory") as memory:
        turns = memory.scope(user_id="ana", session_id="evening").messages()
    assert [turn.text for turn in turns if turn.role == "user"] == ["Can I eat this?", "And that?"]


@pytest.mark.server
def test_a_model_that_refuses_is_one_line(fails, model):
    model.failures += [Failure(status=401)]

    assert "OPENAI_API_KEY" in fails("ask", "What am I allergic to?")


# -- evaluation ----------------------------------------------------------------------------


@pytest.fixture
def locomo(tmp_path):
    turns = [
        {"dia_id": "D1:1", "speaker": "Ana", "text": "My dog is called Pascal."},
        {"dia_id": "D1:2", "speaker": "Ben", "text": "I moved to Lyon."},
    ]
    conversation = {"session_1": turns, "session_1_date_time": "1:56 pm on 8 May, 2026"}
    qa = [{"question": "What is Ana's dog called?", "evidence": ["D1:1"], "category": 4}]
    path = tmp_path / "locomo.json"
    path.write_text(json.dumps([{"conversation": conversation, "qa": qa}]))
    return path


def test_an_evaluation_prints_json_only_when_asked(run, locomo):
    ran = run("eval", "locomo", str(locomo), "--json")

    assert json.loads(ran.out)["overall"]["recall@5"] == 1
    assert ran.err == ""


def test_an_evaluation_shows_every_metric(run, locomo):
    ran = run("eval", "locomo", str(locomo))

    assert all(metric in ran.out for metric in METRICS)


def test_longmemeval_is_read_in_its_own_format(run, tmp_path):
    spoken = [{"role": "user", "content": "My dog is called Pascal.", "has_answer": True}]
    item = {
        "question_id": "q1",
        "question_type": "single-session-user",
        "question": "What is my dog called?",
        "question_date": "2026/05/30 (Sat) 23:40",
        "haystack_sessions": [spoken],
        "haystack_dates": ["2026/05/08 (Fri) 13:56"],
    }
    (tmp_path / "data.json").write_text(json.dumps([item]))

    report = json.loads(run("eval", "longmemeval", "data.json", "--json").out)

    assert report["questions"] == 1
    assert report["overall"]["mrr"] == 1


@pytest.fixture
def own_pairs(tmp_path):
    case = {
        "memories": [
            {"id": "dog", "text": "My dog is called Pascal."},
            {"id": "soup", "text": "Lentil soup for my dog and me."},
            {"id": "job", "text": "I start on Monday."},
        ],
        "questions": [
            {"question": "What is my dog called?", "evidence": ["dog"], "category": "pets"},
            {"question": "What does my dog do for lentil soup?", "evidence": ["job"]},
        ],
    }
    (tmp_path / "own.json").write_text(json.dumps(case))
    return "own.json"


def test_questions_of_your_own_are_evaluated(run, own_pairs):
    report = json.loads(run("eval", "pairs", own_pairs, "--json").out)

    assert report["questions"] == 2
    assert report["by_category"]["pets"]["recall@5"] == 1
    assert "comparison" not in report
    assert "misses" not in report


def test_stock_retrieval_is_put_beside_on_request(run, own_pairs):
    ran = run("eval", "pairs", own_pairs, "--compare")
    report = json.loads(run("eval", "pairs", own_pairs, "--compare", "--json").out)

    assert all(name in ran.out for name in ("dense", "BM25", "RRF", "last turns", "product"))
    assert "over questions (cases: 1, too few to draw from)" in " ".join(ran.out.split())
    assert "Pascal" not in ran.out
    assert report["comparison"]["overall"]["dense"].keys() == report["overall"].keys()


def test_misses_show_texts_signals_and_what_stands_above(run, own_pairs):
    ran = run("eval", "pairs", own_pairs, "--explain", "5")
    report = json.loads(run("eval", "pairs", own_pairs, "--explain", "5", "--json").out)

    assert "What does my dog do for lentil soup?" in ran.out
    assert "at rank 3: I start on Monday." in ran.out
    assert "cosine" in ran.out
    assert "What is my dog called?" not in ran.out  # found at once
    [miss] = report["misses"]
    assert miss["evidence"] == {"id": "job", "text": "I start on Monday."}
    assert [hit["rank"] for hit in miss["above"]] == [1, 2]
    assert sum(miss["hit"]["signals"].values()) == pytest.approx(miss["hit"]["score"])


def test_a_folder_of_documents_is_evaluated(run, tmp_path):
    documents = [{"_id": "d1", "title": "Pascal", "text": "A dog."}, {"_id": "d2", "text": "Tea."}]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "Who is Pascal?"}')
    (tmp_path / "qrels.tsv").write_text("q1\td1\t2\n")

    report = json.loads(run("eval", "beir", str(tmp_path), "--json").out)

    assert report["overall"]["ndcg@10"] == 1


# -- what goes wrong -----------------------------------------------------------------------


def test_a_naive_time_is_refused_with_an_example(fails):
    line = fails("add", "Signed", "--at", "2026-05-02T15:30")

    assert "no zone" in line
    assert "2026-05-02T10:00+02:00" in line


def test_what_is_no_time_is_refused(fails):
    assert "--at 'yesterday' is not a time" in fails("add", "Signed", "--at", "yesterday")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--metadata", "{", "not JSON"),
        ("--metadata", "[1]", "not a JSON object"),
        ("--kind", "document", "hybrid-memory learn"),
        ("--kind", "thought", "'thought'"),
    ],
)
def test_add_names_the_argument_that_it_cannot_take(fails, option, value, said):
    assert said in fails("add", "text", option, value)


def test_a_taken_id_is_a_conflict(run, fails):
    run("add", "I like tea.", "--id", "tea")

    assert "tea" in fails("add", "I like coffee.", "--id", "tea")


def test_an_empty_text_is_refused(fails):
    assert "empty" in fails("add", "-", stdin="\n")


def test_stdin_that_is_not_utf_8_is_refused(fails):
    assert "UTF-8 at byte 1" in fails("add", "-", stdin=b"t\xe9")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--where", "{"), "--where is not JSON"),
        (("--where", '{"at": {"$near": 1}}'), "$near"),
        (("--k", "0"), "k must be"),
        (("--k", "many"), "--k"),
        (("--kind", "thought"), "unknown kind 'thought'"),
        (("--now", "2026-05-02"), "no zone"),
        (("--colour", "red"), "--colour"),
    ],
)
def test_search_names_the_argument_that_it_cannot_take(told, fails, arguments, said):
    assert said in fails("search", "tea", *arguments)


@pytest.mark.parametrize(
    "command",
    [("search", "tea"), ("context", "tea"), ("stats",), ("export", "x"), ("backup", "x")],
)
def test_reading_does_not_make_a_store(fails, tmp_path, command):
    line = fails(*command, "--store", "misspelt")

    assert "--store" in line
    assert not (tmp_path / "misspelt").exists()


def test_a_file_is_no_store(fails, tmp_path):
    (tmp_path / "notes.txt").write_text("not a store")

    assert "notes.txt" in fails("add", "text", "--store", "notes.txt")


@pytest.mark.parametrize("origin", ["hybrid", "mem0", "langgraph", "chroma"])
def test_importing_what_is_not_there_makes_no_store(fails, tmp_path, origin):
    assert "missing" in fails("import", "missing", "--from", origin)
    assert not (tmp_path / "memory").exists()


def test_learning_what_is_not_there_names_it(fails):
    assert "nowhere.md" in fails("learn", "nowhere.md")


def test_a_data_file_of_another_form_is_refused(fails, tmp_path):
    (tmp_path / "data.json").write_text('[{"text": "no conversation"}]')

    assert "conversation" in fails("eval", "locomo", "data.json")
    assert "data.json[0] has the unknown key 'text'" in fails("eval", "pairs", "data.json")
    assert "corpus.jsonl" in fails("eval", "beir", ".")


@pytest.mark.parametrize("command", [("ask", "What do I drink?"), ("chat",)])
def test_without_a_model_one_line_says_how_to_name_one(fails, tmp_path, command):
    line = fails(*command)

    assert "OPENAI_API_KEY" in line
    assert "OPENAI_BASE_URL" in line
    assert "OPENAI_MODEL" in line


def test_a_missing_argument_points_to_the_help(fails):
    assert "hybrid-memory search --help" in fails("search")


def test_an_unknown_command_is_a_usage_error(fails):
    assert "'remember'" in fails("remember", "this")


# -- the process ---------------------------------------------------------------------------


def test_a_pipe_gets_no_escape_sequences_and_no_bar(tmp_path):
    (tmp_path / "menu.md").write_text("Lentils on Mondays.\n")
    store = ["--store", str(tmp_path / "store"), "--user", "ana"]
    learned = subprocess.run(
        [*COMMAND, "learn", str(tmp_path / "menu.md"), *store], capture_output=True, check=True
    )
    found = subprocess.run([*COMMAND, "search", "lentils", *store], capture_output=True, check=True)

    assert (learned.stdout, learned.stderr) == (b"1 chunks of 1 files\n", b"")
    assert b"Lentils on Mondays." in found.stdout
    assert b"\x1b" not in found.stdout + found.stderr


def test_an_error_ends_the_process_with_2_and_no_traceback(tmp_path):
    ran = subprocess.run(
        [*COMMAND, "search", "tea", "--store", str(tmp_path / "misspelt"), "--user", "ana"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 2
    assert ran.stderr.startswith("hybrid-memory: there is no store at ")
    assert ran.stderr.count("\n") == 1


def test_a_closed_pipe_is_no_traceback():
    process = subprocess.Popen([*COMMAND, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    _, err = process.communicate(timeout=60)

    assert b"Traceback" not in err


def test_a_pipe_that_is_closed_early_ends_an_export_quietly(tmp_path):
    with HybridMemory.open(tmp_path / "memory", embedder=HashEmbedder()) as memory:
        memory.scope(user_id="ana").add_many(["tea " * 10_000] * 30)
    process = subprocess.Popen(
        [*COMMAND, "export", "-", "--store", str(tmp_path / "memory")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()

    assert (process.wait(timeout=60), err) == (1, b"")


def test_ctrl_c_is_quiet(tmp_path):
    keyboard, terminal = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "chat", "--store", str(tmp_path / "store"), "--user", "ana"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"},
    )
    assert process.stdout.read(2) == b"> "  # it waits for a question
    for _ in range(3):
        # A signal that comes just before the read begins is only seen with the next one.
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
            break
    err = process.stderr.read()
    os.close(keyboard)
    os.close(terminal)

    assert process.returncode == 130
    assert err == b""


def test_a_store_of_another_embedder_is_refused_with_the_command_that_moves_it(run, tmp_path):
    with HybridMemory.open(tmp_path / "memory", embedder=HashEmbedder()) as memory:
        memory.scope(user_id="ana").add("I drink green tea in the morning.")

    refused = run("search", "tea")
    assert refused.code == 2
    assert "hybrid-memory reembed" in refused.err
    assert json.loads(run("reembed", "--json").out) == {"encoded": 1}
    assert run("reembed").out == "encoded 0 texts\n"
    assert "green tea" in run("search", "What do I drink?").out
