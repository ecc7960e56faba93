"""Kernels of a training step on a CPU, compiled where they are used."""
