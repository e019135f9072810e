"""EgoH4 (arXiv 2504.08654): body and hands of the future by diffusion from camera poses, 2D wrists and image features.
Its record, forecaster, network, inputs, loss, and the authors' checkpoint; what it is trained for is in training/."""
