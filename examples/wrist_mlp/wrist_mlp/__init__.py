"""`wrist-mlp`: where a wrist goes from where it was, by three layers. An example of a learned forecaster in one
folder.
"""
