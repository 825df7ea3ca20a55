"""The study of rows (`tools/study`) on a small random encoder."""

# ruff: noqa: E402

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="the extra `export` is not installed")

from tools.study.corrections import Correction, Fit, from_changed, from_changed_until
from tools.study.encoder import Encoder, Entry, captured
from tools.study.page import needed
from tools.study.partial import Pair, run
from tools.study.selectors import fixed, growing, learn, learned_passes, rollouts, stages, true_change

LAYERS, WIDTH, TOKENS = 4, 8, 12


class Small(Encoder):
    """Random weights; a line is a row of words, each a number."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)

        def weights(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=random) / math.sqrt(shape[0])

        self.heads, self.layers, self.w = 2, LAYERS, {}
        self.table = weights(20, WIDTH) * 5
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}."
            inner = [("intermediate.dense", WIDTH, 16), ("output.dense", 16, WIDTH)]
            square = [f"attention.self.{kind}" for kind in ("query", "key", "value")] + [
                "attention.output.dense"
            ]
            for name, rows, columns in [*((name, WIDTH, WIDTH) for name in square), *inner]:
                self.w[f"{at}{name}.weight"] = weights(rows, columns)
                self.w[f"{at}{name}.bias"] = torch.zeros(columns)
            for name in ("attention.output.LayerNorm", "output.LayerNorm"):
                self.w[f"{at}{name}.weight"] = torch.ones(WIDTH)
                self.w[f"{at}{name}.bias"] = torch.zeros(WIDTH)

    def embed(self, line: str) -> torch.Tensor:
        return torch.nn.functional.layer_norm(self.table[list(map(int, line.split()))], (WIDTH,))


def line(*changes: tuple[int, int]) -> str:
    words = list(range(TOKENS))
    for place, word in changes:
        words[place] = word
    return " ".join(map(str, words))


@pytest.fixture(scope="module")
def encoder() -> Small:
    return Small()


@pytest.fixture(scope="module")
def pair(encoder: Small) -> Pair:
    exact = captured(encoder, line((3, 15)), torch.float32)
    return Pair(captured(encoder, line()), exact)


@pytest.fixture(scope="module")
def others(encoder: Small) -> list[Entry]:
    return [captured(encoder, line((place, 12 + place % 8))) for place in range(TOKENS)]


def test_all_rows_give_what_the_encoder_gives(encoder: Small, pair: Pair) -> None:
    made = run(encoder, pair, fixed(true_change)(pair, -1.0))
    assert made.cost == 1
    torch.testing.assert_close(made.final, pair.request.final)


def test_an_infinite_bound_runs_the_changed_rows_alone(encoder: Small, pair: Pair) -> None:
    grown = growing(lambda entry: rollouts(entry, stages(LAYERS)))
    for select in (fixed(true_change), grown):
        made = run(encoder, pair, select(pair, math.inf))
        assert made.rows.tolist() == [3]
        assert made.cost == pytest.approx(1 / TOKENS)


def test_rows_join_at_later_stages_and_stay(encoder: Small, pair: Pair) -> None:
    seen = []
    plan = growing(lambda entry: rollouts(entry, (0, 2)))(pair, 0.12)

    def watched(layer: int, x: torch.Tensor, ran: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask, x = plan(layer, x, ran)
        seen.append(int(mask.sum()))
        return mask, x

    run(encoder, pair, watched)
    assert seen[0] == seen[1] < seen[2] == seen[3]


def test_a_limited_start_moves_no_further_than_predicted(pair: Pair) -> None:
    far = Correction(from_changed, 1e3 * torch.eye(WIDTH))
    passes = rollouts(pair.entry, (0, 2))
    moves = []
    for limited in (False, True):
        plan = growing(lambda entry: passes, {2: far}, limited)(pair, 1e-6)
        plan(0, pair.request.at(0), pair.changed)
        x = torch.where(pair.changed[:, None], pair.request.at(2), pair.entry.at(2))
        mask, x = plan(2, x, pair.changed)
        stored = pair.entry.at(2)
        moves.append(((x - stored).norm(dim=1) / stored.norm(dim=1))[mask & ~pair.changed])
    predicted = (passes[0] @ pair.change)[~pair.changed]
    assert (moves[0] > predicted).all()
    torch.testing.assert_close(moves[1], predicted)


def test_learning_finds_what_moves_rows() -> None:
    random = torch.Generator().manual_seed(1)
    true = torch.rand(5, 5, generator=random)
    changes = torch.rand(40, 5, generator=random)
    found = learn(changes, changes @ true.T, torch.eye(5), 1e-4)
    torch.testing.assert_close(found, true, atol=1e-2, rtol=0)


def test_what_a_stage_passes_on_is_learned_for_each(pair: Pair, others: list[Entry]) -> None:
    passes = learned_passes(pair.entry, others, stages(LAYERS))
    assert list(passes) == [0, 1, 2, 3]
    assert all(matrix.shape == (TOKENS, TOKENS) and (matrix >= 0).all() for matrix in passes.values())


@pytest.mark.parametrize("depth", [2, LAYERS])
def test_a_correction_is_fitted_at_any_depth(pair: Pair, others: list[Entry], depth: int) -> None:
    pairs = [(n, m, Pair(others[m], others[n])) for n in range(TOKENS) for m in range(TOKENS) if n != m]
    correction = Fit(pairs, depth, from_changed_until(depth)).correction()
    left = [
        float((fitted.moves(depth) - step)[~fitted.changed].square().sum())
        for _, _, fitted in pairs
        for rows in [fitted.changed.nonzero()[:, 0]]
        for step in [correction.step(fitted, rows, fitted.moves(depth)[rows]), torch.zeros(TOKENS, WIDTH)]
    ]
    assert sum(left[::2]) < sum(left[1::2])


def test_needed_rows_are_interpolated() -> None:
    curve = [(0.1, 0.0, 0.1), (0.3, 0.0, 0.001)]
    assert needed(curve, 2, 0.01) == "0.200"
    assert needed(curve, 2, 0.2) == "0.100 or less"
    assert needed(curve, 2, 1e-4) == "above 0.300"


@pytest.mark.parametrize(("layers", "begins"), [(8, [0, 2, 4, 6]), (6, [0, 2, 4]), (3, [0, 1, 2]), (1, [0])])
def test_stages(layers: int, begins: list[int]) -> None:
    assert stages(layers) == begins
