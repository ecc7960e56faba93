"""Model or generations to scores."""
