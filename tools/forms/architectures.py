"""Architectures, small and with random weights: what class, what configuration, what inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.forms.configurations import (
    MELS,
    SPREAD,
    Options,
    bart,
    distilbert,
    gpt2,
    grouped,
    of_pictures,
    of_text,
    segformer,
    siglip,
    swin,
    t5,
    text,
    towers,
    wav2vec2,
    whisper,
    xlm,
)
from tools.forms.form import Scale, no_shapes

IDS, MASK, POSITIONS = "input_ids", "attention_mask", "position_ids"


@dataclass(frozen=True)
class Architecture:
    """One architecture, as transformers has it.

    Attributes:
        model: the class.
        options: of its configuration, from the scale.
        config: the configuration's class; None: named as the model's.
        names: of the inputs, in the order in which they are given.
        shapes: of inputs that are no tokens, without the batch, by the scale.
        outputs: the attributes of what it returns that are kept.
        fixed: further arguments of a call.
        pad: the token that pads.
        task: of optimum; None: optimum does not export it as one file.
    """

    model: str
    options: Options
    config: str | None = None
    names: tuple[str, ...] = (IDS, MASK)
    shapes: Callable[[Scale], Mapping[str, tuple[int, ...]]] = no_shapes
    outputs: tuple[str, ...] = ("last_hidden_state",)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    pad: int = 0
    task: str | None = "feature-extraction"


def _pixels(scale: Scale) -> dict[str, tuple[int, ...]]:
    return {"pixel_values": (3, scale.image, scale.image)}


def _pictures(model: str, options: Options, task: str | None = "feature-extraction") -> Architecture:
    """One that takes pictures."""
    return Architecture(model, options, names=("pixel_values",), shapes=_pixels, task=task)


def _whole(model: str, options: Options, pad: int = 0) -> Architecture:
    """Encoder and decoder in one graph."""
    names = (IDS, MASK, "decoder_input_ids")
    return Architecture(model, options, names=names, fixed=DECODER, pad=pad, task=None)


ENDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
DECODER = {"use_cache": False}
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}

TEXT: dict[str, Architecture] = {
    "distilbert": Architecture("DistilBertModel", distilbert),
    "roberta": Architecture("RobertaModel", of_text(**ENDS), pad=1),
    "xlm-roberta": Architecture("XLMRobertaModel", of_text(**ENDS), pad=1),
    "albert": Architecture("AlbertModel", of_text(embedding_size=16)),
    "electra": Architecture("ElectraModel", of_text(embedding_size=16)),
    "mpnet": Architecture("MPNetModel", of_text(**ENDS), pad=1),
    "deberta": Architecture("DebertaModel", of_text(**DISENTANGLED)),
    "deberta-v2": Architecture(
        "DebertaV2Model",
        of_text(
            **DISENTANGLED,
            position_buckets=16,
            share_att_key=True,
            norm_rel_ebd="layer_norm",
            position_biased_input=False,
        ),
    ),
    "xlm": Architecture("XLMModel", xlm),
    "flaubert": Architecture("FlaubertModel", xlm),
    "modernbert": Architecture(
        "ModernBertModel",
        of_text(
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
    "nomicbert": Architecture("NomicBertModel", of_text()),
    "esm": Architecture(
        "EsmModel", of_text(pad_token_id=1, mask_token_id=3, position_embedding_type="rotary"), pad=1
    ),
    "convbert": Architecture("ConvBertModel", of_text(embedding_size=32, head_ratio=2)),
    "squeezebert": Architecture(
        "SqueezeBertModel", lambda scale: text(scale) | {"embedding_size": scale.width}
    ),
    "nystromformer": Architecture("NystromformerModel", of_text(num_landmarks=8, segment_means_seq_len=32)),
    "roformer": Architecture("RoFormerModel", of_text()),
    "mobilebert": Architecture(
        "MobileBertModel", of_text(embedding_size=32, intra_bottleneck_size=32, num_feedforward_networks=2)
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
    "gpt2": Architecture("GPT2Model", gpt2, fixed=DECODER),
    "opt": Architecture(
        "OPTModel",
        lambda scale: (
            text(scale) | {"ffn_dim": scale.intermediate, "word_embed_proj_dim": scale.width, **ENDS}
        ),
        fixed=DECODER,
        pad=1,
    ),
    "gpt-neox": Architecture("GPTNeoXModel", of_text(), fixed=DECODER),
    "bloom": Architecture(
        "BloomModel",
        lambda scale: {
            "vocab_size": scale.vocabulary,
            "hidden_size": scale.width,
            "n_layer": scale.layers,
            "n_head": scale.heads,
            "initializer_range": SPREAD,
        },
        fixed=DECODER,
    ),
    "llama": Architecture("LlamaModel", grouped(), fixed=DECODER),
    "mistral": Architecture("MistralModel", grouped(sliding_window=None), fixed=DECODER),
    "qwen2": Architecture("Qwen2Model", grouped(), fixed=DECODER),
    "qwen3": Architecture("Qwen3Model", grouped(), fixed=DECODER),
    "gemma": Architecture("GemmaModel", grouped(), fixed=DECODER),
    "gemma3": Architecture(
        "Gemma3TextModel", grouped(sliding_window=16, query_pre_attn_scalar=8), fixed=DECODER
    ),
    "phi": Architecture("PhiModel", grouped(), fixed=DECODER),
    "t5-encoder": Architecture("T5EncoderModel", t5, config="T5Config", task=None),
    "t5": _whole("T5Model", t5),
    "bart": _whole("BartModel", bart, pad=1),
    "marian": _whole("MarianModel", bart, pad=1),
}
OTHERS: dict[str, Architecture] = {
    "vit": _pictures("ViTModel", of_pictures()),
    "deit": _pictures("DeiTModel", of_pictures()),
    "beit": _pictures("BeitModel", of_pictures(use_relative_position_bias=True)),
    "swin": _pictures("SwinModel", swin),
    "dinov2": _pictures("Dinov2Model", of_pictures(mlp_ratio=2)),
    "segformer": _pictures("SegformerModel", segformer),
    "clip-vision": _pictures("CLIPVisionModel", of_pictures(), task=None),
    "clip-text": Architecture("CLIPTextModel", of_text(**ENDS), pad=1, task=None),
    "siglip-vision": _pictures("SiglipVisionModel", of_pictures(), task=None),
    "siglip-text": Architecture(
        "SiglipTextModel", lambda scale: text(scale) | {"projection_size": scale.width}, task=None
    ),
    "clip": Architecture(
        "CLIPModel",
        towers(**ENDS),
        names=(IDS, MASK, "pixel_values"),
        shapes=_pixels,
        outputs=("text_embeds", "image_embeds"),
        task="zero-shot-image-classification",
        pad=1,
    ),
    "siglip": Architecture(
        "SiglipModel",
        siglip,
        names=(IDS, MASK, "pixel_values"),
        shapes=_pixels,
        outputs=("text_embeds", "image_embeds"),
        task=None,
    ),
    "wav2vec2": Architecture(
        "Wav2Vec2Model",
        wav2vec2,
        names=("input_values",),
        shapes=lambda scale: {"input_values": (scale.samples,)},
    ),
    "whisper-encoder": Architecture(
        "WhisperModel",
        whisper,
        names=("input_features",),
        shapes=lambda scale: {"input_features": (MELS, scale.frames)},
        task=None,
    ),
}
