"""Export a local Hugging Face model directory to ONNX with optimum-onnx."""

import os
from pathlib import Path

from models.fetch import RecipeError
from onnx_memo.data.export import OPSET

FEATURES = "feature-extraction"  # output last_hidden_state: float32 [batch, length, width]
MASKED_LM = "fill-mask"  # output logits: float32 [batch, length, vocabulary]


def require_exporter() -> None:
    """Raise `RecipeError` unless the packages of the `export` extra are installed."""
    try:
        import optimum.exporters.onnx  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise RecipeError(
            f"this recipe exports a model and needs PyTorch and optimum-onnx ({error}); "
            "install them with: pip install 'onnx-memo[export]'"
        ) from None


def export_model(model: Path, to: Path, task: str) -> None:
    """Export the encoder in `model`, with what the task adds to it, as `to`/model.onnx: fp32, opset 17.

    Inputs input_ids, attention_mask, token_type_ids: int64 [batch, length]; the output is the task's.

    Raises:
        RecipeError: the exporter cannot export it.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from optimum.exporters.onnx import main_export

    try:
        main_export(str(model), output=to, task=task, library_name="transformers", opset=OPSET, device="cpu")
    except Exception as error:  # whatever PyTorch and the exporter meet
        what = " ".join(str(error).split()) or type(error).__name__
        raise RecipeError(
            f"optimum cannot export '{model.name}' for {task}: {what}; install the versions that the extra "
            "names: pip install 'onnx-memo[export]'"
        ) from error
