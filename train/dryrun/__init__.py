"""A training step compiled for a simulated cluster of NPUs, and what follows from it."""
