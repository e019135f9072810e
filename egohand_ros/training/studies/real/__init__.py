"""Studies on real recordings of hands: what is learned of them, and judged on sources that were left out."""
