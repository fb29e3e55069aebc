"""Quantize once: a recipe's rules into integer weights, in torch, for every target alike."""
