"""From rows to figures, lines, score.json and pages; two runs compared."""
