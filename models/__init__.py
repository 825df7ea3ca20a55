"""Recipes that bring the demo and benchmark models and texts, pinned by hash."""
