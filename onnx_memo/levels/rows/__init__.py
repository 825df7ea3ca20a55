"""The level `rows`: store whole encoder runs, and run only the rows that changed.

Only `onnx_memo.levels` imports from here.
"""
