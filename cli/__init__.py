"""The `mindgeex` command: parse, call, print; no logic."""
