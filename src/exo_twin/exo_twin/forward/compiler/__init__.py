"""Scaled OpenSim model in, planar MuJoCo walker with a hip exoskeleton out."""
