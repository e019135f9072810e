"""Robot hands in MuJoCo: scene, firmware, pictures, and MuJoCo's own word on distances.

Live code never needs it.
"""
