"""What the memo operators are called, and the numbers that all their forms agree on."""

from __future__ import annotations

DOMAIN = "onnx_memo"
VERSION = 1
SEGMENTS = 8  # of a request, whose hidden states are averaged for its key
MOST_CHANGE = 8.0  # what the relative change of a row counts at most
