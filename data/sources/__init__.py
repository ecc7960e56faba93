"""One file a source: each yields Documents lazily."""
