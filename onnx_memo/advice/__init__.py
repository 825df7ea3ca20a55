"""Advice: what each promise would cost on a model and a sample, and which one to take. Nothing is proven here."""
