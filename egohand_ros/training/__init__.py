"""Training of learned forecasters: losses, augmentation, resumable checkpoints, the loop.
No networks (see `forecast/`), no readers of data sets (see `data/`)."""
