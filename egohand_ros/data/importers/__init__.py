"""Other projects' recordings as episodes, one module a format.

`data/load.py` tells which one reads a file.
"""
