"""edgekit: teach an on-device language model when to call the cloud, and keep that true on the phone."""

__version__ = "0.1.0"
