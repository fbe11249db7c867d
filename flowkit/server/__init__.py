"""Answers: the platform."""
