"""Look-alikes: always the same for a seed, distinct, and with the frequencies of what they stand for."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from support import fixture
from tokenizers import Tokenizer, processors

from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import model_inputs
from onnx_memo.graph.opened import OpenedModel
from tools.lookalikes import __main__ as command
from tools.lookalikes import inputs, pairs, questions, sshd, templates
from tools.lookalikes.inputs import INPUTS
from tools.workloads import TRASTUZUMAB

DRAWN = [name for name in INPUTS if name != "utterances"]  # which a recipe brings
LINE = re.compile(r"(\w{3} [ \d]\d \d\d:\d\d:\d\d) gate sshd\[(\d+)\]: (.+)")


@pytest.mark.parametrize("name", DRAWN)
def test_a_seed_gives_the_same_distinct_inputs_and_another_seed_others(name):
    draw = INPUTS[name].draw
    one, other = draw(300, 3), draw(300, 4)
    assert one == draw(300, 3)
    assert len(set(one)) == 300
    assert len(set(one) & set(other)) < 100


@pytest.mark.parametrize("name", ["variants", "questions", "sshd"])
def test_lines_are_one_text_each(name):
    assert not any(re.search(r"[\n\t{}]", line) or not line.strip() for line in INPUTS[name].draw(500, 0))


# ---- Templates


def test_a_template_is_filled_by_its_fields():
    assert templates.fields_of("{a} and {b_c}, {a}") == ["a", "b_c", "a"]
    assert templates.filled("{a} and {b}, {a}", {"a": "1", "b": "{a}"}) == "1 and {a}, 1"
    with pytest.raises(KeyError):
        templates.filled("{a}", {})


def test_more_different_texts_than_there_are_is_an_error():
    drawn = iter("abcab" * 1000)
    with pytest.raises(ValueError, match="4 different texts were asked for, and there are about 3"):
        templates.distinct(lambda: next(drawn), 4)
    assert templates.distinct(lambda: next(drawn), 3) == ["a", "b", "c"]


# ---- SSH server


def test_a_log_is_in_order_of_time_and_processes():
    found = [LINE.fullmatch(line) for line in sshd.lines(1000, seed=1)]
    assert all(found)
    times = [datetime.strptime(f"2024 {one[1]}", "%Y %b %d %H:%M:%S") for one in found]
    assert times == sorted(times)
    processes = [int(one[2]) for one in found]
    assert processes == sorted(processes)


def test_a_connection_keeps_its_address_user_and_port():
    of: dict[str, list[str]] = {}
    for line in sshd.lines(3000, seed=2):
        _, process, message = LINE.fullmatch(line).groups()
        of.setdefault(process, []).append(message)
    for messages in of.values():
        said = " ".join(messages)
        assert len(set(re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", said))) <= 1
        assert len(set(re.findall(r"port (\d+)", said))) <= 1
        assert len(set(re.findall(r"invalid user (\S+)", said))) <= 1
    kinds = Counter(len(messages) for messages in of.values())
    assert kinds[3] > kinds[6] > kinds[1] > 0, "most try root once, many guess a user, few say nothing"


def test_a_few_addresses_make_most_of_the_connections():
    found = re.findall(r"from (\d+\.\d+\.\d+\.\d+) port", "\n".join(sshd.lines(5000, seed=3)))
    counts = Counter(found).most_common()
    assert 8 <= len(counts) <= sshd.STRANGERS
    assert sum(count for _, count in counts[:3]) > len(found) / 2


def test_every_kind_of_connection_names_messages_and_every_message_is_left_by_one():
    named = {message for _, kind in sshd.CONNECTIONS for message in kind.split()}
    assert named == set(sshd.MESSAGES)


# ---- Questions


def test_every_intent_says_and_asks_and_its_fields_are_known():
    found = questions.intents()
    assert len({intent.name for intent in found}) == len(found) >= 50
    for intent in found:
        assert len(intent.said) >= 1 and len(intent.asked) >= 2
        for template in intent.said + intent.asked:
            assert set(templates.fields_of(template)) <= set(questions.FIELDS)
            assert template == template.strip()


def test_no_line_of_the_grammar_is_passed_over():
    lines = questions.GRAMMAR.read_text(encoding="utf-8").splitlines()
    used = sum(1 + len(intent.said) + len(intent.asked) for intent in questions.intents())
    assert used == sum(bool(line) and not line.startswith("#") for line in lines)


def test_there_are_thousands_of_questions_and_all_intents_among_them():
    found = questions.questions(5000)
    counts = Counter(one.intent for one in found)
    assert len({one.text for one in found}) == 5000
    assert set(counts) == {intent.name for intent in questions.intents()}
    assert max(counts.values()) < 3 * min(counts.values())


def test_questions_are_written_as_people_write():
    texts = [one.text for one in questions.questions(2000)]
    plain = [text for text in texts if text == text.lower() and text[-1] not in ".?"]
    assert 0.15 < len(plain) / len(texts) < 0.25
    for text in set(texts) - set(plain):
        assert text[0].isupper() and text[-1] in ".?"
        assert not re.search(r"\bi\b|[.?] [a-z]", text)


# ---- Pairs


def test_the_pairs_of_a_question_stand_together_and_share_a_pool():
    drawn = pairs.pairs(1005, seed=1)
    asked = [a for a, _ in drawn]
    assert len(drawn) == len(set(drawn)) == 1005
    assert list(Counter(asked).values()) == [10] * 100 + [5]
    assert asked == sorted(asked, key=asked.index)
    pool = {one.text for one in questions.questions(pairs.POOL)}
    assert {b for _, b in drawn} <= pool
    assert not pool & set(asked)


def test_about_half_of_the_candidates_are_about_the_same():
    known = {one.text: one.intent for one in questions.questions(3000, seed=2)}
    pool = {one.text: one.intent for one in questions.questions(pairs.POOL)}
    same = [known[a] == pool[b] for a, b in pairs.pairs(1000, seed=1)]
    assert 0.3 < np.mean(same) < 0.7


def test_pairs_become_arrays_that_are_read(tokenizer, tmp_path):
    made = Tokenizer.from_file(str(tokenizer))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A [CLS] $B:1", special_tokens=[("[CLS]", 0)]
    )
    made.save(str(tokenizer))
    inputs.write([("a b", "c"), ("d", "e")], tmp_path / "pairs.npz", tokenizer)
    wanted = model_inputs(OpenedModel(fixture("bert")))
    samples = read_samples(tmp_path / "pairs.npz", wanted, None)
    assert [one["input_ids"][0].tolist() for one in samples.arrays] == [[0, 1, 2, 0, 3], [0, 4, 0, 5]]
    assert [one["token_type_ids"][0].tolist() for one in samples.arrays] == [[0, 0, 0, 0, 1], [0, 0, 0, 1]]


# ---- Files


def test_variants_are_single_substitutions_as_many_as_there_are():
    found = inputs.variants(2280)
    assert {sum(a != b for a, b in zip(TRASTUZUMAB, one, strict=True)) for one in found} == {1}
    with pytest.raises(ValueError, match="2281 different texts were asked for, and there are 2280"):
        inputs.variants(2281)


def test_the_command_writes_as_many_lines_as_asked(tmp_path, capsys):
    out = tmp_path / "new" / "log.txt"
    assert command.main(["sshd", "--count", "20", "--seed", "5", "--out", str(out)]) == 0
    assert out.read_text().splitlines() == sshd.lines(20, 5)
    assert "20 log lines" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["variants", "--count", "9999"], "there are 2280"),
        (["pairs", "--out", "pairs.txt"], "'pairs.txt' must end in .npz"),
        (["questions", "--count", "0"], "--count takes a number above 0, not 0"),
    ],
)
def test_what_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys, arguments, why):
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 1
    told = capsys.readouterr().err
    assert why in told and told.count("\n") == 1
    assert not list(Path().iterdir())


def test_the_help_lists_all_that_can_be_written():
    rows = re.findall(r"^\| (\S+) \|.*\| (.+) \|$", command.__doc__, re.MULTILINE)
    assert dict(row for row in rows if row[0] in INPUTS) == {
        name: ", ".join(kind.models) for name, kind in INPUTS.items()
    }
