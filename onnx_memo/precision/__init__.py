"""Products in 8 bits: a lever beside reuse.

An encoder's constant products are found together with what follows them, rounded, and put back as few
operators.
"""
