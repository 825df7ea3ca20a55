"""Export the small models of tests/fixtures/: `python tools/export_fixtures.py [NAME ...]`.

Real architectures, shrunk to 32 wide and 2 or 3 layers, with seeded random weights: the same
package versions give the same bytes. Needs the packages of the `export` extra; the tests read
the files and need none of them.
"""

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from optimum.exporters.onnx import main_export
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"
OPSET = 17
WIDTH = 32
LAYERS = 2
HEADS = 4
INTERMEDIATE = 64
VOCABULARY = 64
POSITIONS = 64
IMAGE, PATCH = 16, 4
CLASSES = 10
SPREAD = 0.3  # initializer_range: wide enough that attention is far from uniform

SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INTERMEDIATE,
    "initializer_range": SPREAD,
}
TEXT = {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS}


def seeded(build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """Build a model with the same random weights every time, in inference mode.

    Biases and normalization weights, which start out as zeros and ones, are moved apart: equal
    ones would be merged by the exporters, as they never are in a trained model.
    """
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def export_folder_with_optimum(
    model: Any, to: Path, task: str = "feature-extraction", opset: int = OPSET
) -> None:
    """Export with optimum-onnx through the TorchScript exporter, as most published models were.

    Writes `model.onnx` and its configuration into the folder `to`.
    """
    with tempfile.TemporaryDirectory() as source:
        model.save_pretrained(source)
        torch.manual_seed(0)  # for weights that loading adds, such as an unused pooler
        main_export(source, output=to, task=task, library_name="transformers", opset=opset, device="cpu")


def export_with_optimum(model: Any, to: Path) -> None:
    """The same, the model alone."""
    with tempfile.TemporaryDirectory() as exported:
        export_folder_with_optimum(model, Path(exported))
        to.write_bytes((Path(exported) / "model.onnx").read_bytes())


def export_with_torchscript(
    model: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    output: str,
    to: Path,
    opset: int = OPSET,
) -> None:
    """Export a module of ours; axis 0 is dynamic, and so is axis 1 of hidden states and tokens."""
    axes = {
        name: {0: "batch", 1: f"{name}_length"}
        if tensor.ndim == 3 or not tensor.is_floating_point()
        else {0: "batch"}
        for name, tensor in inputs.items()
    }
    torch.onnx.export(
        model,
        tuple(inputs.values()),
        str(to),
        input_names=list(inputs),
        output_names=[output],
        dynamic_axes=axes,
        opset_version=opset,
        dynamo=False,
    )


def bert(to: Path) -> None:
    """BERT, 3 layers: bidirectional, learned absolute positions."""
    config = transformers.BertConfig(**(SIZES | TEXT | {"num_hidden_layers": 3}))
    export_with_optimum(seeded(lambda: transformers.BertModel(config)), to)


class _BertOutput(torch.nn.Module):
    """BERT without token types, returning the last hidden state alone."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def bert_opset11(to: Path) -> None:
    """BERT, 2 layers, as it was exported for years: attention written out, an old opset."""
    config = transformers.BertConfig(**(SIZES | TEXT))
    config._attn_implementation = "eager"
    model = _BertOutput(seeded(lambda: transformers.BertModel(config)))
    tokens = torch.ones((2, 7), dtype=torch.int64)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    export_with_torchscript(model, inputs, "last_hidden_state", to, opset=11)


def bert_dynamo(to: Path) -> None:
    """BERT, 2 layers, through PyTorch's newer exporter: sizes come from the graph's inputs."""
    config = transformers.BertConfig(**(SIZES | TEXT))
    model = _BertOutput(seeded(lambda: transformers.BertModel(config, add_pooling_layer=False)))
    example = torch.ones(2, 8, dtype=torch.int64)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    program = torch.onnx.export(
        model,
        (example, example.clone()),
        dynamo=True,
        opset_version=OPSET,
        input_names=["input_ids", "attention_mask"],
        output_names=["last_hidden_state"],
        dynamic_shapes=(axes, axes),
        verbose=False,
    )
    assert program is not None
    program.save(to)


def distilbert(to: Path) -> None:
    """DistilBERT: as BERT, with other names and another mask."""
    config = transformers.DistilBertConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=POSITIONS,
        dim=WIDTH,
        n_layers=LAYERS,
        n_heads=HEADS,
        hidden_dim=INTERMEDIATE,
        initializer_range=SPREAD,
    )
    export_with_optimum(seeded(lambda: transformers.DistilBertModel(config)), to)


def gpt2(to: Path) -> None:
    """GPT-2, prefill (no past): causal, one fused projection for queries, keys and values."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=POSITIONS,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_inner=INTERMEDIATE,
        initializer_range=SPREAD,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    export_with_optimum(seeded(lambda: transformers.GPT2Model(config)), to)


def deberta_v2(to: Path) -> None:
    """DeBERTa-v2, as v3 sets it: disentangled attention, bucketed relative positions only."""
    export_with_optimum(seeded(lambda: transformers.DebertaV2Model(_disentangled())), to)


def _disentangled(**more: Any) -> transformers.DebertaV2Config:
    return transformers.DebertaV2Config(
        **(SIZES | TEXT),
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=16,
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        type_vocab_size=0,
        **more,
    )


def deberta_v2_conv(to: Path) -> None:
    """The same with a convolution beside the first layer, as its largest have it: rows mix between layers."""
    export_with_optimum(seeded(lambda: transformers.DebertaV2Model(_disentangled(conv_kernel_size=3))), to)


def mpnet(to: Path) -> None:
    """MPNet: a mask and a table of relative positions are added to the scores."""
    config = transformers.MPNetConfig(**(SIZES | TEXT | {"max_position_embeddings": POSITIONS + 2}))
    export_with_optimum(seeded(lambda: transformers.MPNetModel(config, add_pooling_layer=False)), to)


def xlm(to: Path) -> None:
    """XLM: what is padding is shut out of the scores, and set to zero after each layer."""
    config = transformers.XLMConfig(
        vocab_size=VOCABULARY,
        emb_dim=WIDTH,
        n_layers=LAYERS,
        n_heads=HEADS,
        max_position_embeddings=POSITIONS,
        n_langs=1,
        use_lang_emb=False,
        init_std=SPREAD,
        embed_init_std=SPREAD,
        pad_index=0,
        use_cache=False,
    )
    module = transformers.models.xlm.modeling_xlm
    forward = module.TransformerFFN  # by itself four times as wide as states
    module.TransformerFFN = lambda width, _, *others, **named: forward(width, INTERMEDIATE, *others, **named)
    export_with_optimum(seeded(lambda: transformers.XLMModel(config)), to)
    module.TransformerFFN = forward


def vit(to: Path) -> None:
    """ViT: 16 patches and a class token; no mask; the length is fixed by the image size."""
    config = transformers.ViTConfig(**SIZES, image_size=IMAGE, patch_size=PATCH)
    export_with_optimum(seeded(lambda: transformers.ViTModel(config, add_pooling_layer=False)), to)


class _GroupedEncoder(torch.nn.Module):
    """Llama as embedding models use it: every token sees all others; positions count from 0."""

    def __init__(self, llama: Any) -> None:
        super().__init__()
        self.llama = llama

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        unreal = 1 - attention_mask[:, None, None, :].to(torch.float32)
        bias = unreal * torch.finfo(torch.float32).min
        return self.llama(input_ids=input_ids, attention_mask=bias, use_cache=False).last_hidden_state


def llama(to: Path) -> None:
    """Llama: two queries share keys and values, which are repeated for them; rotary positions."""
    config = transformers.LlamaConfig(**(SIZES | TEXT), num_key_value_heads=HEADS // 2)
    model = _GroupedEncoder(seeded(lambda: transformers.LlamaModel(config)))
    example = torch.ones(2, 8, dtype=torch.int64)
    inputs = {"input_ids": example, "attention_mask": example.clone()}
    export_with_torchscript(model, inputs, "last_hidden_state", to)


def qwen3(to: Path) -> None:
    """Qwen3, half as wide: causal, the caller gives positions. Names are short."""
    config = transformers.Qwen3Config(
        **(SIZES | TEXT | {"hidden_size": WIDTH // 2, "num_attention_heads": 2, "intermediate_size": WIDTH}),
        num_key_value_heads=1,
        head_dim=8,
        use_cache=False,
    )
    export_with_optimum(seeded(lambda: transformers.Qwen3Model(config)), to)
    shorten_names(to)


def shorten_names(path: Path) -> None:
    """Number nodes and inner values in order: their names are half of a small decoder's file."""
    model = onnx.load(path)
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    names: dict[str, str] = {}
    for tensor in model.graph.initializer:
        names[tensor.name] = tensor.name = f"w{len(names)}"
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
        node.input[:] = [names.get(name, name) for name in node.input]
        for at, name in enumerate(node.output):
            if name not in kept:
                names[name] = node.output[at] = f"v{len(names)}"
    del model.graph.value_info[:]
    onnx.save(model, path)


class _CrossAttention(torch.nn.Module):
    """A decoder's second half: queries from one input, keys and values from another."""

    def __init__(self) -> None:
        super().__init__()
        self.query = torch.nn.Linear(WIDTH, WIDTH)
        self.key = torch.nn.Linear(WIDTH, WIDTH)
        self.value = torch.nn.Linear(WIDTH, WIDTH)
        self.output = torch.nn.Linear(WIDTH, WIDTH)
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.feed_forward = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, INTERMEDIATE),
            torch.nn.GELU(),
            torch.nn.Linear(INTERMEDIATE, WIDTH),
        )

    def forward(self, hidden_states: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        queries, keys, values = (
            projected.unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)
            for projected in (self.query(hidden_states), self.key(memory), self.value(memory))
        )
        scores = queries @ keys.transpose(2, 3) / (WIDTH // HEADS) ** 0.5
        context = (torch.softmax(scores, dim=-1) @ values).transpose(1, 2).flatten(2)
        hidden_states = self.norm(hidden_states + self.output(context))
        return hidden_states + self.feed_forward(hidden_states)


def spread_weights(model: torch.nn.Module) -> torch.nn.Module:
    """Draw the linear layers' weights as wide as the other fixtures'."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=SPREAD)
    return model


def cross_attention(to: Path) -> None:
    """One cross-attention block: not a site, since its keys and values come from elsewhere."""
    model = seeded(lambda: spread_weights(_CrossAttention()))
    inputs = {"hidden_states": torch.zeros(2, 5, WIDTH), "memory": torch.zeros(2, 7, WIDTH)}
    export_with_torchscript(model, inputs, "last_hidden_state", to)


def _classifier() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(WIDTH, INTERMEDIATE),
        torch.nn.GELU(),
        torch.nn.LayerNorm(INTERMEDIATE),
        torch.nn.Linear(INTERMEDIATE, CLASSES),
        torch.nn.Softmax(dim=-1),
    )


def no_attention(to: Path) -> None:
    """A classifier whose only softmax is over its classes."""
    model = seeded(lambda: spread_weights(_classifier()))
    export_with_torchscript(model, {"features": torch.zeros(2, WIDTH)}, "probabilities", to)


MAKERS: dict[str, Callable[[Path], None]] = {
    maker.__name__: maker
    for maker in (
        bert,
        bert_dynamo,
        bert_opset11,
        distilbert,
        gpt2,
        deberta_v2,
        deberta_v2_conv,
        mpnet,
        xlm,
        vit,
        llama,
        qwen3,
        cross_attention,
        no_attention,
    )
}


def strip_notes(path: Path) -> None:
    """Remove the exporters' notes, such as stack traces, which name files of this machine."""
    model = onnx.load(path)
    assert not model.functions, f"{path.name}: model-local functions may hold notes too"
    graphs = [model.graph]
    noted: list[Any] = [model]
    for graph in graphs:  # grows by the branches found on the way
        noted += [graph, *graph.node, *graph.value_info, *graph.input, *graph.output]
        graphs += [
            attribute.g
            for node in graph.node
            for attribute in node.attribute
            if attribute.type == onnx.AttributeProto.GRAPH
        ]
    for proto in noted:
        proto.ClearField("doc_string")
        proto.ClearField("metadata_props")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def example(session: Any, batch: int, length: int, random: np.random.Generator) -> dict[str, Any]:
    """Random inputs of that batch and length; every token is real."""
    feeds: dict[str, Any] = {}
    for node in session.get_inputs():
        shape = (batch, *(size if isinstance(size, int) else length for size in node.shape[1:]))
        match node.name:
            case "input_ids":
                feeds[node.name] = random.integers(0, VOCABULARY, shape)
            case "attention_mask":
                feeds[node.name] = np.ones(shape, np.int64)
            case "token_type_ids":
                feeds[node.name] = np.zeros(shape, np.int64)
            case "position_ids":
                feeds[node.name] = np.broadcast_to(np.arange(length), shape).copy()
            case "pixel_values":
                feeds[node.name] = random.normal(size=(batch, 3, IMAGE, IMAGE)).astype(np.float32)
            case _:
                feeds[node.name] = random.normal(size=shape).astype(np.float32)
    return feeds


def check(path: Path) -> None:
    """Assert that every size runs, that outputs depend on inputs, and that the mask matters."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for batch in (1, 2, 3):
        for length in (1, 5, POSITIONS):
            for output in session.run(None, example(session, batch, length, random)):
                assert len(output) == batch, f"{path.name}: {batch=}, {length=}"
                assert np.isfinite(output).all(), f"{path.name}: {batch=}, {length=}"
    feeds = example(session, 2, 5, random)
    first, second = session.run(None, feeds)[0]
    assert abs(first - second).mean() > 0.2 * first.std(), f"{path.name}: outputs hardly differ"
    if "attention_mask" in feeds:
        feeds["attention_mask"][:, 0] = 0
        masked = session.run(None, feeds)[0][0]
        change = abs(first - masked)[1:].mean()
        assert change > 0.1 * first.std(), f"{path.name}: the mask hardly matters"


def write_tiny_hf_directory(path: Path, build: Callable[[], torch.nn.Module] | None = None) -> None:
    """Write a Hugging Face model directory: a tiny model and a lower-casing WordPiece tokenizer.

    Its tokens are the special ones, the letters, and a few words: any text of Latin letters
    tokenizes without [UNK].

    Args:
        path: of the directory.
        build: makes the model; None: a BERT without a head.
    """
    config = transformers.BertConfig(**(SIZES | TEXT))
    model: Any = seeded(build or (lambda: transformers.BertModel(config, add_pooling_layer=False)))
    model.save_pretrained(path)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["the", "and", "is", "how", "what", "you", "are"]
    pieces = [*specials, *letters, *(f"##{letter}" for letter in letters), *words]
    ids = {piece: index for index, piece in enumerate(pieces)}
    assert len(ids) == VOCABULARY
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=POSITIONS,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the named fixtures, all by default; print name, bytes and SHA-256 of each."""
    parser = argparse.ArgumentParser(description="Export the small models of tests/fixtures/.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MAKERS))
    names = parser.parse_args(arguments).names
    for unknown in set(names) - set(MAKERS):
        parser.error(f"'{unknown}' is no fixture; choose from {', '.join(MAKERS)}")
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name in names or MAKERS:
        path = FIXTURES / f"{name}.onnx"
        MAKERS[name](path)
        strip_notes(path)
        check(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.name} {path.stat().st_size} bytes sha256 {digest}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
