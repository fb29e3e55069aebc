"""The edgekit command."""
