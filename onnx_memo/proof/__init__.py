"""What is promised and how it is proven: `promise`, `sequence`, `thresholds`, `goal`, and the `metrics`.

Numbers in, numbers out: no models, no files. Import from the modules.
"""
