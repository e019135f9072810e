"""Claims of papers in miniature: small networks with and without what a paper adds, on generated scenes.

A module a system says what is compared; `study.py` and `judging.py` of the folder above train and judge. EggHand's,
MEgoHand's, EgoMotion's and EgoMAN's are there, too.
"""
