"""Lower a quantized policy to a phone's format."""
