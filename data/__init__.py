"""Raw code -> MindRecord: sources, filters, dedup, tokenizer, packing, shards with checksums, and the loader back."""
