"""Run a bundle's artifact on this host."""
