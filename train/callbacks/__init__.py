"""One file a concern of the training run."""
