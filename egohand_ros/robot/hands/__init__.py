"""What a robot hand is: config, URDF, kinematics, its body as capsules, its command mapping.

No motion (see `limits/`, `retarget/`, `follow/`).
"""
