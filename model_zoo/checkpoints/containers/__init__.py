"""Files of named tensors, a module each: read by range and written straight through, one tensor at a time."""
