"""`egohand-motion`: how the hands of real people go on from what they just did; small networks without a frame of their
own. Nothing of images or of what a stream remembers lives here (see `small/` and `adaptive/`).
"""
