"""Decoding on a CPU in one C++ function, compiled on the machine that runs it."""
