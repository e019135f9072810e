"""`egohand-small`: a few million parameters that correct the Kalman forecast of each hand, on a CPU in
milliseconds. The flow-matching head and the transformer are those of `egghand/`; no training here (see `training/`)."""
