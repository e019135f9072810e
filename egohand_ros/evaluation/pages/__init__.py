"""Reports as pages and pictures.

The numbers come from the modules above.
"""
