"""EgoH4 (arXiv 2504.08654): body and hands of the future by diffusion from camera poses, 2D wrists and image features.
The network, its inputs and outputs, its loss, and the authors' checkpoint; no training loop, no forecaster yet."""
