"""Inputs like those that people have, written here: no data of others is needed to measure on them.

`python -m tools.lookalikes NAME --out FILE` writes them as `onnx-memo optimize --data` reads them.
"""
