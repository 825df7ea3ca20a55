"""The user's inputs: read from files (`samples`), split into the parts of a decision (`parts`).

Also models that come as a Hugging Face directory (`export`). Knows nothing of what is done with inputs.
"""
