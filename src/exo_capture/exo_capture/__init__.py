"""Pixels to keypoints with quality."""
