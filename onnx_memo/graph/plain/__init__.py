"""A model in plain operators: fused, new and quantized ones taken apart, and computed in floats.

What is searched for attention is this form. What the user's model computes where nothing is reused stays as
it is.
"""
