"""Benchmarks, fixture export and the demo; run as `python -m tools.NAME`."""
