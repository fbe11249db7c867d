"""JavaScript of Tracks and tasks: run in child processes, with bounds, with the ``Flow`` library.

``child.py`` is what runs in a child; it imports nothing of the server. ``pool.py`` owns the
children, ``library.py`` says what a script's calls ask for.
"""
