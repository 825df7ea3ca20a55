"""What lies on disk: the memo data (`data`), its sizes, the index, and the bundle as a whole.

Knows tensors by name and size; which there are is a level's business.
"""
