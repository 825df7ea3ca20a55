"""Forms in which exported models are held: what is found in each, and that what is made of it is right.

The files are made by `python -m tools.forms fixtures`; `docs/models.md` has many more.
"""

from __future__ import annotations

import numpy as np
import pytest
from support import FIXTURES, assert_identical, join, memoized, original, random_samples, write_samples

import onnx_memo

FORMS = FIXTURES / "forms"
LENGTHS = (3, 5, 9, 9, 16, 23)
UNEVEN = slice(1, 5)
EVERY, ROWS = ("rows", "output", "probs"), ("rows",)
# By form: how many attention blocks are found, and what may be reused.
EXPECTED: dict[str, tuple[int, tuple[str, ...]]] = {
    "bart-dynamo-23": (2, ROWS),
    "bart-dynamo": (2, EVERY),
    "bert-bnb4-nf4": (2, ROWS),
    "bert-dynamo-23": (2, ROWS),
    "bert-fp16": (2, ROWS),
    "bert-fused": (2, ROWS),
    "bert-fused-fp16": (2, ROWS),
    "bert-fused-mha": (2, ROWS),
    "bert-int8": (2, ROWS),
    "bert-int8-extended": (2, ROWS),
    "bert-int8-products": (2, ROWS),
    "bert-nbits-4": (2, ROWS),
    "bert-nbits-4-qdq": (2, EVERY),
    "bert-qdq": (2, ROWS),
    "bert-qoperator": (2, ROWS),
    "bert-saved-extended": (2, ROWS),
    "bert-torchscript-11": (2, EVERY),
    "bert-torchscript-float16": (2, ROWS),
    "bert-torchscript-normalized": (2, EVERY),
    "clip-dynamo-23": (2, ROWS),
    "clip-torchscript": (2, EVERY),
    "deberta-v2-dynamo": (2, EVERY),
    "gpt-neox-optimum": (2, ("rows", "output")),
    "llama-optimum": (2, ("rows", "output")),
    "mpnet-optimum": (2, EVERY),
}
every_form = pytest.mark.parametrize("form", sorted(EXPECTED))
taken = pytest.mark.parametrize("form", sorted(form for form, (_, levels) in EXPECTED.items() if levels))


def path_of(form):
    return FORMS / f"{form}.onnx"


def samples_of(form, seed):
    return random_samples(original(path_of(form)), LENGTHS, seed)


def test_every_form_has_an_expectation():
    assert {file.stem for file in FORMS.glob("*.onnx")} == set(EXPECTED)


@every_form
def test_what_is_found(form):
    found = onnx_memo.inspect(path_of(form))
    sites, levels = EXPECTED[form]
    assert len(found.sites) == sites
    allowed = {level for site in found.sites for level in site.levels}
    allowed |= {"rows"} if found.repeats else set()
    assert allowed == set(levels)


@taken
def test_repeats_are_reused_and_others_are_the_originals(form, tmp_path, mode):
    model, samples = path_of(form), samples_of(form, seed=1)
    data = write_samples(tmp_path / "data.npz", samples)
    bundle = onnx_memo.optimize(model, data, tmp_path / "bundle")
    assert bundle.manifest.sites[0].level == EXPECTED[form][1][0]
    assert onnx_memo.bench(model, bundle.path, data, native=mode == "native", rounds=1).hit_rate == 1
    before, after = original(model), memoized(bundle.path, mode)
    for sample in samples:
        (want, *_), (have, *_) = before.run(None, sample), after.run(None, sample)
        assert np.linalg.norm(have - want) <= 0.005 * np.linalg.norm(want)
    unseen = samples_of(form, seed=2)
    for request in (*unseen, join(unseen[UNEVEN])):
        assert_identical(after.run(None, request), before.run(None, request))
