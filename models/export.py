"""Export a local Hugging Face model directory to ONNX with optimum-onnx."""

from pathlib import Path

from models.fetch import RecipeError
from onnx_memo.data.export import export_directory


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


def export_features(model: Path, to: Path) -> None:
    """Export the encoder in `model` as `to`/model.onnx, fp32, opset 17.

    Inputs input_ids, attention_mask, token_type_ids: int64 [batch, length];
    output last_hidden_state: float32 [batch, length, width].
    """
    export_directory(model, to)
