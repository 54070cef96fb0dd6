"""Turns reservations into door PINs that work exactly when they should."""
