"""The model's graph: load it, find its attention, add probes, guard regions. One pass a file."""
