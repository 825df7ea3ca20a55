"""optimum's models of every task give the logits that the original directory gives."""

from __future__ import annotations

import numpy as np
import optimum.onnxruntime
import pytest
import transformers
from conftest import LINES, UNSEEN
from support import MODES

import onnx_memo

NEAR = 1e-5  # between PyTorch and ONNX Runtime, of the largest number
TASKS = {
    "FeatureExtraction": ("Model", ["last_hidden_state"]),
    "SequenceClassification": ("ForSequenceClassification", ["logits"]),
    "TokenClassification": ("ForTokenClassification", ["logits"]),
    "MaskedLM": ("ForMaskedLM", ["logits"]),
    "QuestionAnswering": ("ForQuestionAnswering", ["start_logits", "end_logits"]),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("task", "layout"), [*((task, "flat") for task in TASKS), ("SequenceClassification", "onnx")]
)
def test_models_of_optimum_give_what_the_directory_gives(bundles, task, layout, mode):
    directory, bundle, outputs = bundles(task, layout)
    options = onnx_memo.session_options(native=mode == "native")
    kind = getattr(optimum.onnxruntime, f"ORTModelFor{task}")
    model = kind.from_pretrained(bundle, session_options=options)
    auto = "AutoModel" if task == "FeatureExtraction" else f"AutoModelFor{task}"
    original = getattr(transformers, auto).from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(bundle)
    texts = [*LINES, *UNSEEN]
    for batch in [*([text] for text in texts), texts]:
        tokens = tokenizer(batch, return_tensors="pt", padding=True)
        want, have = original(**tokens), model(**tokens)
        for name in outputs:
            wanted = want[name].detach().numpy()
            atol = NEAR * np.abs(wanted).max()
            real = (
                tokens["attention_mask"].numpy() == 1 if wanted.ndim > 1 and "Sequence" not in task else ...
            )
            np.testing.assert_allclose(have[name].numpy()[real], wanted[real], atol=atol, rtol=0)


def test_a_decoder_keeps_its_logits(directory_of, lines, tmp_path):
    directory = directory_of("LlamaForCausalLM", num_key_value_heads=2)
    made = onnx_memo.optimize(directory, lines, tmp_path / "bundle")
    options = onnx_memo.session_options()
    model = optimum.onnxruntime.ORTModelForCausalLM.from_pretrained(
        made.path, use_cache=False, session_options=options
    )
    original = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.path)
    for text in [*LINES, *UNSEEN]:
        tokens = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        want = original(**tokens).logits.detach().numpy()
        atol = NEAR * np.abs(want).max()
        np.testing.assert_allclose(model(**tokens).logits.numpy(), want, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def bundles(directory_of, lines, tmp_path_factory):
    """`bundles(task, layout)`: a directory, its bundle, and its outputs' names."""
    directories, made = {}, {}

    def make(task: str, layout: str):
        name, outputs = TASKS[task]
        if task not in directories:
            directories[task] = directory_of(f"Bert{name}")
        if (task, layout) not in made:
            folder = tmp_path_factory.mktemp(task)
            result = onnx_memo.optimize(directories[task], lines, folder / "bundle", layout=layout)
            said = ", ".join(map(repr, outputs))
            assert any(note.endswith(f"outputs: {said}") for note in result.manifest.notes)
            made[task, layout] = result.path
        return directories[task], made[task, layout], outputs

    return make
