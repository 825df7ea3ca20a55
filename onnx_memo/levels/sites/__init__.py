"""The levels `output` and `probs`: reuse of single attention blocks.

Only `onnx_memo.levels` imports from here.
"""
