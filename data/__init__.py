"""Raw code to MindRecord."""
