"""Every bound and default of the device side, as ``flowkit/limits.py`` has those of the rest.

They stand here so that a device loads no figures of servers. The page of limits shows both files.
"""

from __future__ import annotations

outbox_rows_max = 1_000_000
"""Entries that an outbox keeps unless it is told otherwise: eleven days at one a second."""

outbox_bytes_max = 1024 * 1024 * 1024
"""Bytes of entries and payloads that an outbox keeps unless it is told otherwise."""

outbox_entry_bytes_max = 900 * 1024
"""Largest entry, as JSON; an array with its origin stays below 1 MiB. Payloads may be larger."""

outbox_stream_chars_max = 250
"""Longest name of a stream (positions 9)."""

outbox_streams_max = 10_000
"""Streams of one outbox: a platform keeps as many marks for one device (positions 9)."""

outbox_peek_rows_max = 1_000
"""Entries of one look, and of one request."""

outbox_peek_bytes_max = 4 * 1024 * 1024
"""Bytes of the entries of one look; the first is always shown."""

outbox_piece_bytes = 256 * 1024
"""Bytes of one piece of a payload: reading some of it loads no more than the pieces around it."""

outbox_expire_rows_max = 500
"""Entries that one commit drops for their age; what is left over goes with the next."""

outbox_dead_max = 10_000
"""Dead letters that are kept; beyond, the oldest is discarded and that is reported."""

outbox_reports_max = 1_000
"""Reports that are kept (forks, holes, what was dropped); the oldest go."""

outbox_error_chars_max = 500
"""Characters of an entry's last error that are kept."""

outbox_value_bytes_max = 2 * 1024 * 1024
"""Largest of the values that are kept beside the entries, as JSON: more than any drop, so that a
message to the device always fits."""

outbox_busy_timeout_s = 5.0
"""Seconds that a commit waits for another program that has the file open, a backup for example."""

outbox_wal_bytes = 4 * 1024 * 1024
"""Bytes that the write-ahead log keeps when it starts anew: a full disk does not stop settling."""

outbox_disk_left_bytes = 8 * 1024 * 1024
"""Bytes of the disk that a put leaves free, at most a quarter of it: the log of the file may grow
by its 4 MiB, and the file by as much, before anything that is settled makes room."""

outbox_free_pages_min = 256
"""Free pages of 4 KiB below which a file does not give room back to the disk."""

outbox_free_pages_step = 64
"""Pages that one commit gives back, so that none of them takes long."""

outbox_free_pages_alone = 256
"""The same of a commit that does nothing else, after a large payload has gone: some 5 ms."""

outbox_gather_max_s = 0.002
"""Longest that a commit waits for the other threads which took part in the one before."""

outbox_clock_note_ms = 10_000
"""Milliseconds between two notes of the clock by which ages are measured."""

outbox_clock_sane_ms = 1_577_836_800_000
"""The year 2020: a device whose clock says less has not been told the time yet."""

outbox_log_pause_s = 60.0
"""Seconds between two lines in the log about entries that were dropped for room or age."""
link_timeout_s = 30.0
"""Seconds that one request of a device may take."""

link_answer_bytes_max = 64 * 1024 * 1024
"""Most bytes of one answer that a device reads; the platform's own are smaller."""

sender_lanes_default = 3
"""Connections of one sender: streams that are sent side by side. One may be busy with a large
payload for long."""

sender_entries_max = 1_000
"""Entries in one request of a sender: at a round trip of 50 ms that is 20,000 a second."""

sender_bytes_max = 512 * 1024
"""Bytes after which a request of a sender takes no further entry: what a slow link carries in
time."""

sender_retry_first_s = 0.5
"""Seconds before a sender tries again; each further time twice as long."""

sender_retry_max_s = 60.0
"""Longest wait of a sender between two tries, unless the server asks for more."""

sender_retry_after_max_s = 3600.0
"""What a sender waits at most because a server asks for it: one wrong header must not end it."""

sender_inline_bytes_max = 64 * 1024
"""A payload up to this many bytes stands in its entry; a larger one goes before it, in pieces."""

sender_piece_bytes = 256 * 1024
"""Bytes of one piece of a large payload: what a slow link carries before the time of a request is
up, and what is lost at most when it breaks."""

sender_skips_kept = 1_000
"""Entries dropped unsent, or ranges of them, that a sender remembers for who asks what became of
one."""

sender_greet_s = 300.0
"""Seconds without any request after which a sender asks for the marks, so that a device with
nothing to send notices a restored server, too."""

sender_close_s = 5.0
"""Seconds for which a sender that is closed goes on sending what is queued, unless told."""

inbound_messages_max = 1_000
"""Messages to a device that its file keeps until the application acknowledges them; more stay with
the platform until half of them are. One answer of the platform may go beyond."""

inbound_bytes_max = 16 * 1024 * 1024
"""Bytes of those messages, as JSON."""

provisioning_poll_s = 5.0
"""Seconds between two questions of a device whether it was approved, about."""

device_name_chars_max = 120
"""Longest name of a stream or stream group; the two together name a line of the outbox."""

device_id_text_chars_max = 250
"""Longest id of a message, batch, slice or chunk."""

device_elements_bytes_max = 256 * 1024
"""Largest JSON object that goes as elements; a larger one goes as the bytes that it is."""

event_key_chars_max = 250
"""Longest key of an event of a streamer."""

event_keys_max = 1_000
"""Values of one object that is logged; a larger one is rather a file than an event."""

event_depth_max = 20
"""Deepest nesting of an object that is logged."""

bucket_chars_max = 250
"""Longest name or key of a bucket."""

streamer_buffer_events = 10
"""Events after which a streamer sends at once, unless it is told otherwise."""

streamer_flush_s = 1.0
"""Seconds that an event waits for others before it is sent."""

streamer_close_s = 5.0
"""Seconds that closing a streamer goes on sending, also at the end of the program."""

streamer_wait_s = 120.0
"""Seconds for which a call without ``use_async`` waits for the platform."""

streamer_files_max = 64
"""Programs of one account that stream at once; each has a file of its own."""
