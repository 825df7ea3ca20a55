"""Build a bundle's memo data and guarded model, and check them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort

from onnx_memo.errors import MemoError
from onnx_memo.files import write_file
from onnx_memo.graph.external import external_files
from onnx_memo.graph.shapes import batch_of
from onnx_memo.job import Job
from onnx_memo.levels.apart import run_apart
from onnx_memo.levels.base import Blueprint, Level, Use, Verdict, Wanted
from onnx_memo.levels.decide import decide
from onnx_memo.levels.padding import miss_where_irregular, miss_where_padded
from onnx_memo.levels.registry import allowed
from onnx_memo.levels.rows.guard import misses_in_bytes
from onnx_memo.store import bundle
from onnx_memo.store.data import rewrite_weights, take_weights, write_computed, write_store
from onnx_memo.store.room import check_room
from onnx_memo.verify import Checked, Fused, Mixed, Unfit, check_bundle

AS_COMPUTED = (
    "ONNX Runtime fuses this model across the places where it is guarded: it is written as version "
    f"{ort.__version__} fuses it"
)
AS_A_WHOLE = "a batch of which only some inputs are stored runs as a whole"

Built = tuple[Verdict | None, Blueprint, Checked]


def built(
    job: Job, wanted: Wanted, uses: Sequence[tuple[Level, Use]], padding: str | None, folder: Path
) -> tuple[Job, Built]:
    """As `_build`; where ONNX Runtime fuses the model across all places where it can be guarded, of what it
    makes of the model, in which all is fused already.

    Raises:
        Unfit: neither bundle is right.
    """
    known = len(job.notes)
    try:
        return job, _build(job, uses, padding, folder)
    except Fused as fused:
        if job.opened.as_computed:
            raise
        try:
            again = replace(job, opened=job.opened.again())
            uses = allowed(again.opened, wanted, [], rounding=job.goal is not None)
        except MemoError:
            raise fused from None
        _empty(folder)
        job.notes[known:] = [AS_COMPUTED]  # what was noted is about another model
        return again, _build(again, uses, padding, folder)


def _build(job: Job, uses: Sequence[tuple[Level, Use]], padding: str | None, folder: Path) -> Built:
    """Decide what is guarded, write memo data and guarded model, and check them.

    `padding` is the mask, if padding counts.

    Without a tolerance the first level is taken whose bundle is right. A proof is done once, for one level.

    Raises:
        Unfit: the bundle of the last level is not right.
    """
    job.scratch.mkdir()
    if job.goal is not None:
        check_room(folder, _bytes_needed(job, [use for _, use in uses]))
        verdict = decide(job, uses)
        return verdict, verdict.blueprint, _write(job, verdict.blueprint, padding, folder)
    *_, (last, _) = uses
    for level, use in uses:
        check_room(folder, _bytes_needed(job, [use]))
        trial = job.on_trial()
        try:
            blueprint = use.repeats(trial)
            checked = _write(trial, blueprint, padding, folder)
        except Unfit as unfit:
            if level is last:
                raise
            job.notes.append(f"the level '{level.title}' is left out: {unfit.why}")
            _empty(folder)
            job.scratch.mkdir()
        else:
            job.notes.extend(trial.notes)
            return None, blueprint, checked
    raise AssertionError("a model allows at least one level")


def _empty(folder: Path) -> None:
    for part in folder.iterdir():
        part.unlink() if part.is_file() else shutil.rmtree(part)


def _write(job: Job, blueprint: Blueprint, padding: str | None, folder: Path) -> Checked:
    """Write the memo data and the guarded model, and check them."""
    external = write_store(folder, blueprint.tensors(job.scratch, job.notes))
    shutil.rmtree(job.scratch)
    model = _write_model(job, blueprint, padding, external, folder)
    apart, whole = bool(run_apart(model)), _original_runs_whole(model)
    del model  # it may be large
    try:
        checked = check_bundle(job, folder, apart)
        if whole and not apart and batch_of(job.opened.model) > 1:
            job.notes.append(f"{AS_A_WHOLE}: what it reads is not taken apart")
        return checked
    except (Mixed, Fused) as unfit:  # it may be what lets some sequences of a batch run apart
        if not apart:
            raise
        (folder / bundle.MODEL).unlink()
        _write_model(job, blueprint, padding, external, folder, apart=False)
        checked = check_bundle(job, folder)
        job.notes.append(f"{AS_A_WHOLE}: {unfit.why}")
        return checked


def _write_model(
    job: Job,
    blueprint: Blueprint,
    padding: str | None,
    tensors: Mapping[str, ir.TensorProtocol],
    folder: Path,
    apart: bool = True,
) -> ir.Model:
    """Write the guarded model, and beside it the files that hold what it reads of the original's weights.

    `apart` is as of `Blueprint.insert`; returns the model.
    """
    copy = job.opened.copy()
    if not job.compact:
        take_weights(copy.model, job.opened.folder, folder)
    blueprint.insert(copy, tensors, apart)
    if job.compact:
        rewrite_weights(copy.model, folder)
    write_computed(copy.model, folder)
    if padding is not None:
        miss_where_padded(copy.model, padding)
    if job.opened.findings.counted:
        miss_where_irregular(copy.model, str(job.opened.findings.mask))
    write_file(folder / bundle.MODEL, ir.to_proto(copy.model).SerializeToString())
    return copy.model


def _original_runs_whole(model: ir.Model) -> bool:
    """Whether, unless its sequences run apart, a batch of which only some are reused runs the original."""
    return any(node.op_type == "MemoLookup" for node in model.graph) and not misses_in_bytes(model)


def _bytes_needed(job: Job, uses: Sequence[Use]) -> int:
    """An upper bound of what captured tensors, memo data and the model's weights take together, in bytes."""
    weights = sum((job.opened.folder / name).stat().st_size for name in external_files(job.opened.model))
    return sum(use.bytes_needed(job) for use in uses) + 2 * (weights + job.path.stat().st_size)
