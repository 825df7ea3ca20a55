"""Find and change what is in a graph: sites, the encoder, and what their rows do.

A search never changes what it searches. Knows ONNX, nothing of samples, stores or operators of ours.
"""
