"""Figures: they take results and return matplotlib figures, and compute nothing."""
