"""The level `int8`: nothing is stored; every request runs the encoder's form in 8 bits."""
