"""What a hit reuses. A level fulfils the contract in `base`; all levels are named in `registry`.

`decide` chooses between levels for a tolerance, without knowing any of them.
"""
