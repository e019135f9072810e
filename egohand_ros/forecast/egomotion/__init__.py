"""EgoMotion-style hands (after arXiv 2604.19105): a vision-language model says motion primitives, and what it thinks of
them conditions a latent diffusion of both hands. A reconstruction: the authors' code and details are not public."""
