"""Recipes as data: what an export quantizes and how, read and checked before any work."""
