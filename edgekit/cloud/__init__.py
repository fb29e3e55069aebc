"""Clouds: who answers when the policy calls."""
