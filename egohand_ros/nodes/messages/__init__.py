"""Messages from arrays and to arrays. Pure functions.

No node needed.
"""
