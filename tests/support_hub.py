"""Texts for the bundles of `tests/hub`."""

LINES = ["a b c", "the cat sat on the mat", "hello world", "one two three four five six seven"]  # stored
UNSEEN = ["never seen before", "x y", "the cat sat on the hat"]
