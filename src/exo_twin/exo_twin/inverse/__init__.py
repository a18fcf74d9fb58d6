"""The inverse twin: from keypoints to a personalised model and its motion."""
