"""MEgoHand at the size of a thumb."""

from egohand_ros.forecast.egghand.config import ActionHeadConfig
from egohand_ros.forecast.megohand.config import DepthSizes, MEgoHandConfig
from egohand_ros.forecast.vlm.sizes import SmolSizes

TINY = MEgoHandConfig(
    hand="bones",
    vlm=SmolSizes(32, 1, 2, 1, 48, 256, 10000.0, 24, 1, 2, 32, 48, 8, 2),
    depth=DepthSizes((8, 8, 8, 8), (1, 1, 1, 1), 8, False, "none"),
    head=ActionHeadConfig(
        109, 109, width=32, heads=2, layers=2, hidden_width=32, context_width=32, fusion_heads=2, fusion_layers=1,
        categories=1, action_positions=16, dropout=0.0,
    ),
    words=("take", "put", "the", "red", "blue", "cup", "left", "right"),
    text_length=12,
    image=(48, 64),
    frozen=False,
    observed=2,
    horizon_steps=5,
    inverse_width=32,
    inverse_layers=1,
)  # fmt: skip
