"""Talking with a policy: in the terminal, on a local page, or by watching a simulated user talk with it."""
