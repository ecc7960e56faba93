"""MindRecord and a model to a checkpoint."""
