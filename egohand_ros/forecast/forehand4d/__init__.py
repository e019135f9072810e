"""ForeHand4D (arXiv 2510.06145): MANO motion of both hands from one image; the lifter from 2D; the regressor baseline.
Its record, forecaster, lifter, networks, conditioning, states, losses, refinement, and the authors' checkpoint."""
