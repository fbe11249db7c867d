"""Subscriptions: who listens to which flow, what they are told, and how fast they take it.

Everything in this package but ``Hub.told`` runs on one native thread with an event loop of its own
(``live.Live.loop``): what does not wait is one uninterrupted step, so no lock is needed.
"""
