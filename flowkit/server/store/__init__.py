"""The store: what is kept, and the only rooms (with ``server/sql.py``) where SQL is written.

``base.py`` says what every store promises; ``sqlite.py`` is the one on a data folder.
"""
