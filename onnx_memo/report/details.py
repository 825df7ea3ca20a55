"""The end of the page: how the sample was split, the machine, the versions, the notes."""

from __future__ import annotations

from onnx_memo.report.evidence import Evidence
from onnx_memo.report.figures import facts, section
from onnx_memo.report.numbers import escaped, percent
from onnx_memo.report.top import plain_notes

LIBRARIES = {
    "native": "native library",
    "stock": "stock ONNX Runtime, no native library",
}


def split(evidence: Evidence) -> str:
    """How many requests of the sample served for what."""
    sizes = evidence.split
    parts = (
        ("store", "stored", sizes.store),
        ("fit", "fitted and calibrated on", sizes.fit),
        ("held", "held out: only measured", sizes.held_out),
    )
    bars = "".join(f'<span class="{kind}" style="flex-grow:{number}"></span>' for kind, _, number in parts)
    named = "".join(f'<li><i class="{kind}"></i>{number:,} {name}</li>' for kind, name, number in parts)
    return section(
        "sample",
        "How the sample was used",
        f"<p>{escaped(sizes.how, 600)}</p>"
        f'<div class="parts" aria-hidden="true">{bars}</div><ul class="keys">{named}</ul>'
        f'<p class="soft">{percent(sizes.repeats)} of such requests are stored word for word: '
        "so much of the traffic repeats itself.</p>",
    )


def setting(evidence: Evidence) -> str:
    """Machine, versions, notes."""
    machine = evidence.machine
    where = (
        ("Processor", machine.processor),
        ("Cores", f"{machine.cores:,}"),
        ("Operators", LIBRARIES.get(machine.library, machine.library)),
    )
    versions = (
        ("onnx-memo", evidence.version),
        ("ONNX Runtime", machine.onnxruntime),
        ("Model", evidence.model),
        ("Data", evidence.data),
    )
    notes = "".join(f"<li>{escaped(note, 600)}</li>" for note in plain_notes(evidence.notes))
    listed = f'<h3>Notes</h3><ul class="notes">{notes}</ul>' if notes else ""
    return section(
        "setting",
        "How it was measured",
        f'<div class="pair"><div><h3>Machine</h3>{facts(where)}</div>'
        f"<div><h3>Versions and sources</h3>{facts(versions)}</div></div>{listed}",
    )
