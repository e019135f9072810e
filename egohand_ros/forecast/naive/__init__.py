"""Forecasters without weights: what every other one has to beat.

One module each.
"""
