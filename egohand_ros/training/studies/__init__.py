"""Ablations and fits that were run to decide something.

Not needed to train.
"""
