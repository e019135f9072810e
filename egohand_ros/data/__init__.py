"""Episodes: importers, the synthetic generator, bag <-> episode, dataset readers.
No forecasting and no metrics here (see `forecast/` and `evaluation/`)."""
