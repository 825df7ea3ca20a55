"""Advice: what each promise would cost on a model and a sample. Nothing is proven here."""
