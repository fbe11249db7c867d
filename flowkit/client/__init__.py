"""Asks: services, transports, and the two kinds of parallel calls."""
