"""Claims of papers in miniature: small networks with and without what a paper adds, on generated scenes.

`study.py` trains and judges, a module a system says what is compared. EggHand's, MEgoHand's and EgoMotion's are in the
folder above.
"""
