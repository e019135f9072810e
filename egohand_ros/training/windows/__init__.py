"""Training batches: cut, augmented, mixed.

Where they come from is in `data/`.
"""
