"""Parts of the live estimator: plain NumPy, lockstep, no ROS."""
