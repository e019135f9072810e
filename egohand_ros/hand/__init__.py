"""What a hand is: the 21-keypoint skeleton, every tracker's convention mapped to it, and the palm frame.
No robot hands here (see `robot/`), no camera geometry (see `geometry/`)."""
