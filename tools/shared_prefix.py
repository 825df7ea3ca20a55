"""A causal model whose requests share a prefix with a stored prompt: exact prefix reuse by the level `rows`.

No trained GPT-2 is at hand without a hub: the model has its architecture and random weights.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from models.bring import CACHE
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import Samples, model_inputs
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.job import Job
from onnx_memo.keys.fixed import fit_keys
from onnx_memo.levels.rows.blueprint import EPSILON, RowsBlueprint, RowsSettings
from onnx_memo.levels.rows.capture import capture_rows
from onnx_memo.levels.rows.influence import write_influence
from onnx_memo.levels.rows.trial import RowsTrial
from onnx_memo.levels.tried import run_original
from onnx_memo.operators.spec import MOST_CHANGE
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Distance
from onnx_memo.proof.promise import Promise
from tools.random_models import bring_random

LAYERS, WIDTH, HEADS, VOCABULARY, TOKENS = 6, 384, 12, 1000, 128
STORED, REQUESTS, SHARED = 20, 20, 0.75
SPREAD = 0.06  # of the weights: attention is far from uniform


def bring(to: Path = CACHE) -> Path:
    """Make `to`/gpt2-random/model.onnx if it is not there, and return its path."""
    return bring_random("gpt2-random", to, _gpt2)


def _gpt2(transformers: Any) -> Any:
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=TOKENS,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        initializer_range=SPREAD,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2Model(config)


def prompts(seed: int = 0) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Stored prompts, and requests that share the first part of one: [n, TOKENS] both."""
    rng = np.random.default_rng(seed)
    stored = rng.integers(0, VOCABULARY, (STORED, TOKENS))
    requests = stored[np.arange(REQUESTS) % STORED].copy()
    begin = int(SHARED * TOKENS)
    requests[:, begin:] = rng.integers(0, VOCABULARY, (REQUESTS, TOKENS - begin))
    return stored, requests


def _samples(path: Path, ids: npt.NDArray[np.int64], folder: Path) -> Samples:
    inputs = model_inputs(OpenedModel(path))
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    given["position_ids"] = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    arrays: Any = {value.name: given[value.name] for value in inputs}
    np.savez(folder / "ids.npz", **arrays)
    return read_samples(folder / "ids.npz", inputs, None)


def shared_prefix(path: Path) -> dict[str, float]:
    """Figures of the level `rows` at the bound 0, influence by the rollout, no correction."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored, asked = (_samples(path, ids, folder) for ids in prompts())
        opened = OpenedModel(path)
        captured = capture_rows(opened, stored, folder, lambda: None)
        network = fit_keys(captured.means)
        none = np.zeros(len(stored), np.bool_)  # the reach of attention itself: it is triangular
        keys = network(captured.means)
        write_influence(captured, keys, none, EPSILON, MOST_CHANGE, lambda: None)
        corrections = [np.zeros((captured.width, captured.width), np.float32)] * len(captured.stages)
        settings = RowsSettings(network, corrections, 0.0)
        trial = RowsTrial(opened, RowsBlueprint(opened.encoder, captured, settings))
        original = run_original(Job(opened, asked, folder), asked, lambda: None)
        goal = Goal(Promise(1e-4, 0.95, 0.95), Distance("relative"))
        tried = trial.run(asked, original, 1.0, goal, lambda: None)
        apart = 0.0
        for feeds, want in zip(asked.arrays, original.answers, strict=True):
            have = _by_name(trial.session, feeds)
            apart = max(
                apart, *(float(np.abs(have[name] - output).max()) for name, output in want.outputs.items())
            )
        return {
            "tokens": TOKENS,
            "shared": SHARED,
            "hits": tried.hit_rate,
            "rows": tried.mean_rows,
            "ratio": trial.race(asked, original, 1.0).ratio,
            "relative": float(tried.errors.max()),
            "apart": apart,
        }


def _by_name(
    session: ort.InferenceSession, feeds: dict[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))
