"""Bring a model or a text: `python -m models.bring RECIPE [--to DIR]`.

| recipe | makes | needs |
|---|---|---|
| demo | minilm-demo/: model.onnx (int8-stored weights), tokenizer.json | |
| minilm | minilm/: model.onnx (fp32), tokenizer.json | the `export` extra |
| antiberty | antiberty/: model.onnx (fp32), tokenizer.json | the `export` extra |
| antiberty-mlm | antiberty-mlm/: the same with its language-model head | the `export` extra |
| classifier | classifier/: the demo model with a head that finds a subject | the `demo` extra |
| reranker | reranker/: the demo model with a head that scores a pair of texts | the `demo` extra |
| chatterbot | chatterbot.txt: one utterance per line | the `demo` extra |
| chatterbot-labelled | chatterbot.jsonl: the same, each with its subject | the `demo` extra |
| news | news.txt: one article per line | |

What is there already, with the right hash, is not brought again.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from models import antiberty, chatterbot, demo, heads, minilm, news
from models.fetch import RecipeError

CACHE = Path(__file__).parent / "cache"
RECIPES: dict[str, Callable[[Path], Path]] = {
    "demo": demo.bring,
    "minilm": minilm.bring,
    "antiberty": antiberty.bring,
    "antiberty-mlm": antiberty.bring_masked_lm,
    "classifier": heads.bring_classifier,
    "reranker": heads.bring_reranker,
    "chatterbot": chatterbot.bring,
    "chatterbot-labelled": chatterbot.bring_labelled,
    "news": news.bring,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow one recipe and print where its result is; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m models.bring", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--to", type=Path, default=CACHE, metavar="DIR", help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    try:
        print(RECIPES[chosen.recipe](chosen.to))
    except RecipeError as error:
        print(f"{chosen.recipe}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
