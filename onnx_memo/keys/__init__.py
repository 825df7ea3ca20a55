"""The key of a request, by which entries are found: `fixed` and `learned` networks, and their `nodes`.

Import from the modules.
"""
