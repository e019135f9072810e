"""Images as arrays: decoding and drawing.

Nothing here knows what a tracker or a node is.
"""
