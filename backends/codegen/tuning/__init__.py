"""The tuner: measures how fast each workload of a network runs by each kernel that can serve it.

``search`` proposes and measures, ``records`` remembers, ``choices`` replays.
"""
