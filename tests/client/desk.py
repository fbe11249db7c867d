"""An API of one small service, for the tests of parallel calls: a test says when it answers."""

from contextlib import contextmanager

import greenlet

from flowkit import green


class Desk:
    """The service ``desk``; ``desk("x")`` is the service of the room "x".

    Attributes:
        under_way, most: calls on the wire now, and the most that there were at once.
        seen: what ``take`` was given, in the order of arrival.
    """

    def __init__(self, room=None, whole=None):
        self.room = room
        self.whole = whole or self
        if whole is None:
            self.under_way = self.most = 0
            self.seen = []
            self.doors = {}
            self.crowds = {}

    def __call__(self, room):
        """The same service in a room."""
        return Desk(room, self.whole)

    @contextmanager
    def on_the_wire(self):
        """Counts a call while it is under way."""
        whole = self.whole
        whole.under_way += 1
        whole.most = max(whole.most, whole.under_way)
        self.crowd(whole.under_way).set(None)
        try:
            green.sleep(0)
            yield
        finally:
            whole.under_way -= 1

    def door(self, name):
        """The cell that a held call waits for."""
        return self.whole.doors.setdefault(name, green.Cell())

    def crowd(self, number):
        """The cell that is set once *number* calls are on the wire."""
        return self.whole.crowds.setdefault(number, green.Cell())

    def give(self, value=None, **params):
        """Answers *value*."""
        with self.on_the_wire():
            return value

    def take(self, value, **params):
        """Remembers what it was given and answers it."""
        with self.on_the_wire():
            self.whole.seen.append((value, params) if params else value)
            return value

    def where(self):
        """Answers the room it was asked in."""
        with self.on_the_wire():
            return self.room

    def hold(self, name, value=None):
        """Answers *value* once ``door(name)`` is set."""
        with self.on_the_wire():
            self.door(name).get()
            return value

    def fail(self, error):
        """Raises *error*."""
        with self.on_the_wire():
            raise error

    def pages(self):
        """Yields: a generator."""
        yield 1

    def find_iter(self):
        """A walk."""
        return iter([1])


class DeskAPI:
    """An API with one service and a raw request."""

    creds = ("account", "token")

    def __init__(self):
        self.desk = Desk()

    def request(self, method, path, data=None, params=None):
        """The raw call."""
        return [method, path, data, params]

    def close(self):
        """Not a call of the platform."""


@contextmanager
def switches():
    """A list of all switches between greenlets of this thread inside the block."""
    seen = []
    before = greenlet.settrace(lambda event, pair: seen.append((event, pair)))
    try:
        yield seen
    finally:
        greenlet.settrace(before)
