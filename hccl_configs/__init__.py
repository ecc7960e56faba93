"""Rank tables for HCCL."""
