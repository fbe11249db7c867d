"""Tasks: imports that run by the clock, and standing connections.

``schedule.py`` says who runs when, ``runs.py`` stores what a run brought, ``rss.py`` and ``api.py``
fetch, ``mqtt.py`` stays connected.
"""
