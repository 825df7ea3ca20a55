"""Architectures, small and with random weights: what class, what configuration, what inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.forms.form import Scale

IDS, MASK, POSITIONS = "input_ids", "attention_mask", "position_ids"
IMAGE, PATCH = 32, 4  # pixels
SAMPLES = 800  # of sound
MELS, FRAMES = 16, 32
Options = Callable[[Scale], dict[str, Any]]


@dataclass(frozen=True)
class Architecture:
    """One architecture, as transformers has it.

    Attributes:
        model: the class.
        options: of its configuration, from the scale.
        config: the configuration's class; None: named as the model's.
        names: of the inputs, in the order in which they are given.
        shapes: of inputs that are no tokens, without the batch.
        outputs: the attributes of what it returns that are kept.
        fixed: further arguments of a call.
        pad: the token that pads.
        task: of optimum; None: optimum does not export it as one file.
    """

    model: str
    options: Options
    config: str | None = None
    names: tuple[str, ...] = (IDS, MASK)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("last_hidden_state",)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    pad: int = 0
    task: str | None = "feature-extraction"


def sizes(scale: Scale) -> dict[str, Any]:
    """In the words that most configurations use."""
    return {
        "hidden_size": scale.width,
        "num_hidden_layers": scale.layers,
        "num_attention_heads": scale.heads,
        "intermediate_size": scale.intermediate,
        "initializer_range": 0.3,
    }


def text(scale: Scale) -> dict[str, Any]:
    """The same of models of text."""
    return sizes(scale) | {"vocab_size": scale.vocabulary, "max_position_embeddings": scale.positions}


def _text(**more: Any) -> Options:
    return lambda scale: text(scale) | more


def _picture(**more: Any) -> Options:
    return lambda scale: sizes(scale) | {"image_size": IMAGE, "patch_size": PATCH} | more


def _grouped(**more: Any) -> Options:
    """Of decoders in which two queries share keys and values; all tokens are known."""
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return lambda scale: (
        text(scale)
        | ends
        | {"num_key_value_heads": scale.heads // 2, "head_dim": scale.width // scale.heads}
        | more
    )


def _xlm(scale: Scale) -> dict[str, Any]:
    return {
        "emb_dim": scale.width,
        "n_layers": scale.layers,
        "n_heads": scale.heads,
        "vocab_size": scale.vocabulary,
        "n_words": scale.vocabulary,
        "max_position_embeddings": scale.positions,
        "init_std": 0.3,
        "embed_init_std": 0.3,
    }


def _gpt2(scale: Scale) -> dict[str, Any]:
    return {
        "vocab_size": scale.vocabulary,
        "n_positions": scale.positions,
        "n_embd": scale.width,
        "n_layer": scale.layers,
        "n_head": scale.heads,
        "n_inner": scale.intermediate,
        "initializer_range": 0.3,
        "use_cache": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def _distilbert(scale: Scale) -> dict[str, Any]:
    return {
        "vocab_size": scale.vocabulary,
        "max_position_embeddings": scale.positions,
        "dim": scale.width,
        "n_layers": scale.layers,
        "n_heads": scale.heads,
        "hidden_dim": scale.intermediate,
        "initializer_range": 0.3,
    }


def _t5(scale: Scale) -> dict[str, Any]:
    return {
        "vocab_size": scale.vocabulary,
        "d_model": scale.width,
        "d_kv": scale.width // scale.heads,
        "d_ff": scale.intermediate,
        "num_layers": scale.layers,
        "num_heads": scale.heads,
        "use_cache": False,
    }


def _bart(scale: Scale) -> dict[str, Any]:
    both = {
        "layers": scale.layers,
        "attention_heads": scale.heads,
        "ffn_dim": scale.intermediate,
    }
    return {
        "vocab_size": scale.vocabulary,
        "max_position_embeddings": scale.positions,
        "d_model": scale.width,
        "init_std": 0.3,
        "use_cache": False,
        "pad_token_id": 1,
        "decoder_start_token_id": 2,
        **{f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in both.items()},
    }


def _swin(scale: Scale) -> dict[str, Any]:
    return {
        "image_size": IMAGE,
        "patch_size": 4,
        "embed_dim": scale.width,
        "depths": [2, 2],
        "num_heads": [scale.heads, scale.heads],
        "window_size": 4,
        "initializer_range": 0.3,
    }


def _segformer(scale: Scale) -> dict[str, Any]:
    return {
        "num_encoder_blocks": 2,
        "depths": [2, 2],
        "sr_ratios": [2, 1],
        "hidden_sizes": [scale.width, scale.width],
        "patch_sizes": [3, 3],
        "strides": [2, 2],
        "num_attention_heads": [scale.heads, scale.heads],
        "mlp_ratios": [2, 2],
        "initializer_range": 0.3,
    }


def _wav2vec2(scale: Scale) -> dict[str, Any]:
    return sizes(scale) | {
        "conv_dim": (scale.width, scale.width),
        "conv_stride": (5, 4),
        "conv_kernel": (10, 3),
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    }


def _whisper(scale: Scale) -> dict[str, Any]:
    return _bart(scale) | {
        "num_mel_bins": MELS,
        "max_source_positions": FRAMES // 2,
        "max_target_positions": scale.positions,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }


def _towers(**more: Any) -> Options:
    """Of two towers, one of text and one of pictures."""

    def options(scale: Scale) -> dict[str, Any]:
        picture = dict(_picture()(scale))
        return {"text_config": text(scale) | more, "vision_config": picture, "projection_dim": scale.width}

    return options


def _pictures(model: str, options: Options, task: str | None = "feature-extraction") -> Architecture:
    """One that takes pictures."""
    return Architecture(model, options, names=("pixel_values",), shapes=PIXELS, task=task)


def _whole(model: str, options: Options, pad: int = 0) -> Architecture:
    """Encoder and decoder in one graph."""
    names = (IDS, MASK, "decoder_input_ids")
    return Architecture(model, options, names=names, fixed=DECODER, pad=pad, task=None)


ENDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
DECODER = {"use_cache": False}
PIXELS = {"pixel_values": (3, IMAGE, IMAGE)}
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}

TEXT: dict[str, Architecture] = {
    "distilbert": Architecture("DistilBertModel", _distilbert),
    "roberta": Architecture("RobertaModel", _text(**ENDS), pad=1),
    "xlm-roberta": Architecture("XLMRobertaModel", _text(**ENDS), pad=1),
    "albert": Architecture("AlbertModel", _text(embedding_size=16)),
    "electra": Architecture("ElectraModel", _text(embedding_size=16)),
    "mpnet": Architecture("MPNetModel", _text(**ENDS), pad=1),
    "deberta": Architecture("DebertaModel", _text(**DISENTANGLED)),
    "deberta-v2": Architecture(
        "DebertaV2Model",
        _text(
            **DISENTANGLED,
            position_buckets=16,
            share_att_key=True,
            norm_rel_ebd="layer_norm",
            position_biased_input=False,
        ),
    ),
    "xlm": Architecture("XLMModel", _xlm),
    "flaubert": Architecture("FlaubertModel", _xlm),
    "modernbert": Architecture(
        "ModernBertModel",
        _text(
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            cls_token_id=1,
            sep_token_id=2,
            local_attention=16,
            global_attn_every_n_layers=2,
            reference_compile=False,
        ),
    ),
    "nomicbert": Architecture("NomicBertModel", _text()),
    "esm": Architecture(
        "EsmModel", _text(pad_token_id=1, mask_token_id=3, position_embedding_type="rotary"), pad=1
    ),
    "convbert": Architecture("ConvBertModel", _text(embedding_size=32, head_ratio=2)),
    "squeezebert": Architecture("SqueezeBertModel", _text(embedding_size=32)),
    "nystromformer": Architecture("NystromformerModel", _text(num_landmarks=8, segment_means_seq_len=32)),
    "roformer": Architecture("RoFormerModel", _text()),
    "mobilebert": Architecture(
        "MobileBertModel", _text(embedding_size=32, intra_bottleneck_size=32, num_feedforward_networks=2)
    ),
    "funnel": Architecture(
        "FunnelBaseModel",
        lambda scale: {
            "vocab_size": scale.vocabulary,
            "block_sizes": [1, 1],
            "d_model": scale.width,
            "n_head": scale.heads,
            "d_head": scale.width // scale.heads,
            "d_inner": scale.intermediate,
        },
        config="FunnelConfig",
        task=None,
    ),
    "gpt2": Architecture("GPT2Model", _gpt2, fixed=DECODER),
    "opt": Architecture(
        "OPTModel",
        lambda scale: (
            text(scale) | {"ffn_dim": scale.intermediate, "word_embed_proj_dim": scale.width, **ENDS}
        ),
        fixed=DECODER,
        pad=1,
    ),
    "gpt-neox": Architecture("GPTNeoXModel", _text(), fixed=DECODER),
    "bloom": Architecture(
        "BloomModel",
        lambda scale: {
            "vocab_size": scale.vocabulary,
            "hidden_size": scale.width,
            "n_layer": scale.layers,
            "n_head": scale.heads,
            "initializer_range": 0.3,
        },
        fixed=DECODER,
    ),
    "llama": Architecture("LlamaModel", _grouped(), fixed=DECODER),
    "mistral": Architecture("MistralModel", _grouped(sliding_window=None), fixed=DECODER),
    "qwen2": Architecture("Qwen2Model", _grouped(), fixed=DECODER),
    "qwen3": Architecture("Qwen3Model", _grouped(), fixed=DECODER),
    "gemma": Architecture("GemmaModel", _grouped(), fixed=DECODER),
    "gemma3": Architecture(
        "Gemma3TextModel", _grouped(sliding_window=16, query_pre_attn_scalar=8), fixed=DECODER
    ),
    "phi": Architecture("PhiModel", _grouped(), fixed=DECODER),
    "t5-encoder": Architecture("T5EncoderModel", _t5, config="T5Config", task=None),
    "t5": _whole("T5Model", _t5),
    "bart": _whole("BartModel", _bart, pad=1),
    "marian": _whole("MarianModel", _bart, pad=1),
}
OTHERS: dict[str, Architecture] = {
    "vit": _pictures("ViTModel", _picture()),
    "deit": _pictures("DeiTModel", _picture()),
    "beit": _pictures("BeitModel", _picture(use_relative_position_bias=True)),
    "swin": _pictures("SwinModel", _swin),
    "dinov2": _pictures("Dinov2Model", _picture(mlp_ratio=2)),
    "segformer": _pictures("SegformerModel", _segformer),
    "clip-vision": _pictures("CLIPVisionModel", _picture(), task=None),
    "clip-text": Architecture("CLIPTextModel", _text(**ENDS), pad=1, task=None),
    "siglip-vision": _pictures("SiglipVisionModel", _picture(), task=None),
    "siglip-text": Architecture("SiglipTextModel", _text(projection_size=32), task=None),
    "clip": Architecture(
        "CLIPModel",
        _towers(**ENDS),
        names=(IDS, MASK, "pixel_values"),
        shapes=PIXELS,
        outputs=("text_embeds", "image_embeds"),
        task="zero-shot-image-classification",
        pad=1,
    ),
    "siglip": Architecture(
        "SiglipModel",
        _towers(projection_size=32),
        names=(IDS, MASK, "pixel_values"),
        shapes=PIXELS,
        outputs=("text_embeds", "image_embeds"),
        task=None,
    ),
    "wav2vec2": Architecture(
        "Wav2Vec2Model", _wav2vec2, names=("input_values",), shapes={"input_values": (SAMPLES,)}
    ),
    "whisper-encoder": Architecture(
        "WhisperModel",
        _whisper,
        names=("input_features",),
        shapes={"input_features": (MELS, FRAMES)},
        task=None,
    ),
}
