"""What a level could do, at settings from strict to loose: what `advise` looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo.levels.inserter import STRICTNESS
from onnx_memo.proof.measure import Seen
from onnx_memo.sessions import Runner, runner


@dataclass(frozen=True)
class Setting:
    """A setting, and what came of the fit part at it.

    Attributes:
        strictness: of the explored model (`memo_strictness`), between 0 and 1.
        hits: which requests were reused, bool[n].
        seen: the distance of their answers.
        decided: what was said of the decision.
    """

    strictness: float
    hits: npt.NDArray[np.bool_] = field(repr=False)
    seen: Seen = field(repr=False)
    decided: Seen = field(repr=False)


@dataclass(frozen=True)
class Explored:
    """A guarded model on captured files, with the store part as its store, and what came of its settings.

    Attributes:
        level: as in `rows in int8`.
        settings: strict to loose.
        bytes: of the memo data for the whole sample, as far as it would be stored.
    """

    level: str
    settings: Sequence[Setting]
    session: ort.InferenceSession
    bytes: int

    def runner(self, setting: Setting) -> Runner:
        """Runs a request at a setting."""
        return runner(self.session, {STRICTNESS: np.asarray(setting.strictness, np.float32)})
