"""Compare an artifact's decisions with the reference's."""
