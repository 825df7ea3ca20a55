"""A bundle's report: one HTML file that shows what was measured, what was decided, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx_memo.report.page import page

__all__ = ["write_report"]


def write_report(path: Path, evidence: dict[str, Any]) -> None:
    """Write the report as one self-contained HTML file that opens without a network.

    Args:
        path: the file to write.
        evidence: plain JSON types, infinities and NaN allowed:
            title, model, data, version: names of the bundle, its sources and of this package's version;
            machine: processor, cores, onnxruntime (its version), library (`native` or `stock`);
            promise: metric (`cosine`, `relative`, `argmax`), tolerance, within and confidence (shares),
                held_out and outside (requests), p_value (kept if at most 1 - confidence);
            split: store, fit, held_out (requests), repeats (share of such requests that are
                stored literally), how (a sentence);
            requests: the held-out ones as calibrated, each with length (tokens), original_ms,
                bundle_ms, hit, distance (infinite: nothing found), error, token_error or None,
                text or None, rows (share of its rows that ran, at the level `rows`; else None, or left out);
            sites: each with name, level (`rows`, `output`, `probs`, or None: not guarded), hit_rate,
                saving_us (mean per request, before the overhead is taken off), overhead_us, reason;
                at the level `rows` the only one is the encoder;
            strictness: each with strictness (0 to 1), hit_rate, mean, p95, worst (errors), outside (share);
            predicted: ratio, hit_rate, hit_ratio, miss_ratio (ratios are bundle over original);
            alternatives: each with name, level (as in `rows in int8` or `output and probs`), ratio, hit_rate,
                chosen, reason, error (what 95 % of the fit part's requests stay within; None or left out:
                not known);
            worst: error, and text or None;
            bytes, entries: size of the memo data;
            notes: sentences;
            threshold (may be left out): the distance up to which entries are reused, if it is one;
            proven_share (may be left out): at the level `rows`, what the held-out part proves of the bound
                that was chosen on the fit part.
    """
    path.write_text(page(evidence), encoding="utf-8")
