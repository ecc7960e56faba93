"""Rank tables: which Ascend device of which server has which rank."""
