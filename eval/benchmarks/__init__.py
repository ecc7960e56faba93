"""One file a benchmark: problems, prompts, how a completion becomes a program."""
