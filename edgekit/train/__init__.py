"""Reinforcement learning of the routing policy: GAPG."""
