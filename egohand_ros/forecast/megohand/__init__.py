"""MEgoHand (arXiv 2505.16602), rebuilt from the paper: image, depth and words -> a chunk of a hand's MANO states.
What the paper says of each part, and what is ours, is in docs/systems.md."""
