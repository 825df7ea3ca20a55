"""Configurations of small models: for each of transformers' ways to name sizes, a function of the scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.forms.form import Scale

PATCH = 4  # pixels
MELS = 16  # of sound
SPREAD = 0.3  # wide enough that attention is far from uniform
Options = Callable[[Scale], dict[str, Any]]


def sizes(scale: Scale) -> dict[str, Any]:
    """In the words that most configurations use."""
    return {
        "hidden_size": scale.width,
        "num_hidden_layers": scale.layers,
        "num_attention_heads": scale.heads,
        "intermediate_size": scale.intermediate,
        "initializer_range": SPREAD,
    }


def text(scale: Scale) -> dict[str, Any]:
    """The same, of models of text."""
    return sizes(scale) | {"vocab_size": scale.vocabulary, "max_position_embeddings": scale.positions}


def of_text(**more: Any) -> Options:
    """Of models of text."""
    return lambda scale: text(scale) | more


def of_pictures(**more: Any) -> Options:
    """Of models of pictures."""
    return lambda scale: sizes(scale) | {"image_size": scale.image, "patch_size": PATCH} | more


def grouped(**more: Any) -> Options:
    """Of decoders in which two queries share keys and values; all tokens are known."""
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return lambda scale: (
        text(scale)
        | ends
        | {"num_key_value_heads": scale.heads // 2, "head_dim": scale.width // scale.heads}
        | more
    )


def xlm(scale: Scale) -> dict[str, Any]:
    """XLM and Flaubert."""
    return {
        "emb_dim": scale.width,
        "n_layers": scale.layers,
        "n_heads": scale.heads,
        "vocab_size": scale.vocabulary,
        "n_words": scale.vocabulary,
        "max_position_embeddings": scale.positions,
        "init_std": SPREAD,
        "embed_init_std": SPREAD,
    }


def gpt2(scale: Scale) -> dict[str, Any]:
    """GPT-2."""
    return {
        "vocab_size": scale.vocabulary,
        "n_positions": scale.positions,
        "n_embd": scale.width,
        "n_layer": scale.layers,
        "n_head": scale.heads,
        "n_inner": scale.intermediate,
        "initializer_range": SPREAD,
        "use_cache": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def distilbert(scale: Scale) -> dict[str, Any]:
    """DistilBERT."""
    return {
        "vocab_size": scale.vocabulary,
        "max_position_embeddings": scale.positions,
        "dim": scale.width,
        "n_layers": scale.layers,
        "n_heads": scale.heads,
        "hidden_dim": scale.intermediate,
        "initializer_range": SPREAD,
    }


def t5(scale: Scale) -> dict[str, Any]:
    """T5."""
    return {
        "vocab_size": scale.vocabulary,
        "d_model": scale.width,
        "d_kv": scale.width // scale.heads,
        "d_ff": scale.intermediate,
        "num_layers": scale.layers,
        "num_heads": scale.heads,
        "use_cache": False,
    }


def bart(scale: Scale) -> dict[str, Any]:
    """BART and Marian."""
    both = {
        "layers": scale.layers,
        "attention_heads": scale.heads,
        "ffn_dim": scale.intermediate,
    }
    return {
        "vocab_size": scale.vocabulary,
        "max_position_embeddings": scale.positions,
        "d_model": scale.width,
        "init_std": SPREAD,
        "use_cache": False,
        "pad_token_id": 1,
        "decoder_start_token_id": 2,
        **{f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in both.items()},
    }


def swin(scale: Scale) -> dict[str, Any]:
    """Swin."""
    return {
        "image_size": scale.image,
        "patch_size": 4,
        "embed_dim": scale.width,
        "depths": [2, 2],
        "num_heads": [scale.heads, scale.heads],
        "window_size": 4,
        "initializer_range": SPREAD,
    }


def segformer(scale: Scale) -> dict[str, Any]:
    """SegFormer."""
    return {
        "num_encoder_blocks": 2,
        "depths": [2, 2],
        "sr_ratios": [2, 1],
        "hidden_sizes": [scale.width, scale.width],
        "patch_sizes": [3, 3],
        "strides": [2, 2],
        "num_attention_heads": [scale.heads, scale.heads],
        "mlp_ratios": [2, 2],
        "initializer_range": SPREAD,
    }


def wav2vec2(scale: Scale) -> dict[str, Any]:
    """wav2vec2."""
    return sizes(scale) | {
        "conv_dim": (scale.width, scale.width),
        "conv_stride": (5, 4),
        "conv_kernel": (10, 3),
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    }


def whisper(scale: Scale) -> dict[str, Any]:
    """Whisper."""
    return bart(scale) | {
        "num_mel_bins": MELS,
        "max_source_positions": scale.frames // 2,
        "max_target_positions": scale.positions,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


def towers(**more: Any) -> Options:
    """Of two towers, one of text and one of pictures."""

    def options(scale: Scale) -> dict[str, Any]:
        picture = dict(of_pictures()(scale))
        return {"text_config": text(scale) | more, "vision_config": picture, "projection_dim": scale.width}

    return options


def siglip(scale: Scale) -> dict[str, Any]:
    """SigLIP, whose text comes out as wide as its pictures."""
    return towers(projection_size=scale.width)(scale)
