"""Instruction data for fine-tuning: what people have on disk to prompts and answers, to rows of tokens.

A **record** is a conversation, a prompt with its completion, or a pair of programs (records.py, xlcost.py); a
**template** makes **samples** of it, each a prompt and an answer (templates.py); samples are encoded and laid into
rows (encoding.py). The loss is taken on answers alone.
"""
