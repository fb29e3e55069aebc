"""Countdown with few problems the built-in policy solves: one in ten has two numbers, six in ten have four."""

from edgekit.tasks.countdown import Countdown

TASK = Countdown("countdown-scarce", {2: 0.10, 3: 0.30, 4: 0.60})
