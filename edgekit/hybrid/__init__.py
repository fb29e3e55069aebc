"""The hybrid runtime: a device model with the cloud behind it, its hand-off safe, private, bounded and seen."""
