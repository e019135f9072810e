"""EggHand: video-text context, hand state encoder, GR00T-N1.5-style flow-matching head; the published sizes and our
small one. No training (see `training/`), no synthetic or recorded data (see `data/`)."""
