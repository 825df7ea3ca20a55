"""A vision model on frames of a still camera: an object moves over a background that stays.

No trained ViT is at hand without a hub: the model has its architecture and random weights. Patches are the
rows; what the object leaves and enters changes, and the camera's noise does not count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.bring import CACHE
from tools.random_models import bring_random

LAYERS, WIDTH, HEADS, IMAGE, PATCH = 6, 384, 12, 224, 16
OBJECT = 32  # pixels a side
NOISE = 0.002  # of the camera, standard deviation; pictures have about 1
SPREAD = 0.06  # of the weights: attention is far from uniform


def bring(to: Path = CACHE) -> Path:
    """Make `to`/vit-random/model.onnx if it is not there, and return its path."""
    return bring_random("vit-random", to, _vit)


def _vit(transformers: Any) -> Any:
    config = transformers.ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        image_size=IMAGE,
        patch_size=PATCH,
        initializer_range=SPREAD,
    )
    return transformers.ViTModel(config, add_pooling_layer=False)


def frames(count: int, seed: int) -> npt.NDArray[np.float32]:
    """Frames [count, 3, IMAGE, IMAGE] with the object anywhere; background and object are always the same."""
    still = np.random.default_rng(0)
    background = np.kron(still.standard_normal((3, IMAGE // 8, IMAGE // 8)), np.ones((8, 8)))
    thing = 2 * np.kron(still.standard_normal((3, OBJECT // 4, OBJECT // 4)), np.ones((4, 4)))
    rng = np.random.default_rng(seed)
    pictures = np.empty((count, 3, IMAGE, IMAGE), np.float32)
    for picture in pictures:
        picture[:] = background
        top, left = rng.integers(0, IMAGE - OBJECT + 1, 2)
        picture[:, top : top + OBJECT, left : left + OBJECT] = thing
        picture += NOISE * rng.standard_normal(picture.shape)
    return pictures
