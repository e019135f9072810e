"""What Foxglove and RViz show of hands and forecasts: topics made of HandPoseArray and HandForecastArray.

Live, the `forecaster` and the `hand_tracker` make them while somebody listens; for a recording, `recording.py` does.
"""

from ...hand.skeleton import SIDES

OF_FORECASTS = ("forecast/markers", *(f"forecast/{side}/{kind}" for side in SIDES for kind in ("path", "poses")))
OF_HANDS = ("hand_poses/markers",)
MADE_TOPICS = (*OF_FORECASTS, *OF_HANDS)
