"""The commands, one after the other; `onnx_memo.cli` starts them."""
