"""The 2-D wave equation by finite elements: the data of the wave-simulator experiments.

`fem` solves, `trajectories` says what is drawn and kept, `exact` has the solution to compare with.
"""
