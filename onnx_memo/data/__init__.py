"""The user's inputs: `readers` gives `samples`, `parts` splits them to decide, `distinct` counts repeats.

Also models that come as a Hugging Face directory (`export`). Knows nothing of what is done with inputs.
"""
