"""Subscriptions, the client's side: one connection that is kept, and what is heard over it.

Who does what::

    values        what a subscription hands out: Change, Gap, Shift
    frames        bytes of a WebSocket to messages and back
    dialling      a session, a socket and the handshake: an open connection
    connection    one connection on the loop: one greenlet reads, the others only send
    waiting       commands that wait for their replies
    inbox         the bounded way from the loop to the user's thread or greenlet
    reader        a reader on the wire: what it asked for, what it has received
    resume        a place in a file
    subscription  a listener as its user sees it: handler or iteration, its place
    view          a live query as a mapping
    roster        the readers of one connection: subscribed, paused, tried again, ended
    handling      where the handlers run
    commands      what can be asked besides subscribing
    asking        what a subscription asks for, checked
    process       the event loop of the process, its forks and its end
    keeper        keeps one connection for one runner: connects anew, subscribes again
    runner        ``WebSocket``: what users hold

All sockets live on one event loop on a thread of its own, made at first use, so heartbeats go on
whatever the user's handlers do. Handlers run in the user's own thread or greenlet.

Source: protocol 9, ``positions`` 5 to 8 and 10.
"""
