"""Write look-alikes of what people have: `python -m tools.lookalikes NAME --out FILE`.

| name | what | for the models |
|---|---|---|
| variants | single substitutions of an antibody, up to 2,280 | antiberty, antiberty-mlm |
| sshd | log lines of an SSH server | minilm-demo, minilm |
| questions | questions to a bank | minilm-demo, minilm, intents |
| pairs | questions to a bank, each with candidates, as .npz | reranker |
| utterances | lines of conversation, up to 1,875 | classifier, minilm-demo, minilm |

`python -m models.bring --help` tells how the models are brought. `python -m tools.lookalikes intents-model`
makes intents/: the demo model with a head that finds what a question is about.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from models import heads
from models.bring import CACHE
from models.fetch import RecipeError
from tools.lookalikes.inputs import INPUTS, bring_intents, write


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one kind of inputs, or make the model of intents; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.lookalikes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("name", choices=[*INPUTS, "intents-model"])
    parser.add_argument("--count", type=int, default=1000, help="inputs; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: NAME with its suffix, here")
    chosen = parser.parse_args(arguments)
    try:
        print(_made(chosen))
    except (RecipeError, ValueError) as error:
        print(f"{chosen.name}: {error}", file=sys.stderr)
        return 1
    return 0


def _made(chosen: argparse.Namespace) -> str:
    if chosen.name == "intents-model":
        return str(bring_intents(CACHE))
    if chosen.count < 1:
        raise ValueError(f"--count takes a number above 0, not {chosen.count}")
    inputs = INPUTS[chosen.name]
    out = chosen.out or Path(chosen.name + inputs.suffix)
    if out.suffix != inputs.suffix:
        raise ValueError(f"'{out}' must end in {inputs.suffix}")
    tokenizer = heads.bring_reranker(CACHE) / "tokenizer.json" if inputs.suffix == ".npz" else Path()
    write(inputs.draw(chosen.count, chosen.seed), out, tokenizer)
    return f"{out}: {chosen.count:,} {inputs.title}, for {' or '.join(inputs.models)} in {CACHE}"


if __name__ == "__main__":
    sys.exit(main())
