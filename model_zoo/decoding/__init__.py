"""Decoding: the prompt in one pass, then a token at a time over the cache, chosen, checked for an end, and shown."""
