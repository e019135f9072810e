"""USST (ICCV 2023): one 3D hand point and its uncertainty by a state-space transformer over images and past points.
The network, its inputs and outputs, its loss, and the authors' checkpoint; no training loop, no forecaster yet."""
