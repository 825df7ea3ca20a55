"""The commands: `make` has those that make bundles, `measure` and `explain` those that look at them.

`shared` holds what all have in common; `onnx_memo.cli` starts them.
"""
