"""USST (ICCV 2023): one 3D hand point and its uncertainty by a state-space transformer over images and past points.
Its record, forecaster, network, inputs, loss, and the authors' checkpoint; what it is trained for is in training/."""
