"""Every bound and default of flowkit: name, unit (last in the name), value, and the reason.

A bound that is enforced anywhere is written here and nowhere else. The reference page of limits is
generated from this file: the docstring under each name is what users read.
"""

from __future__ import annotations

filter_text_chars_max = 65_536
"""Longest filter text. Longer than any client sends, short enough to parse in some milliseconds."""

filter_depth_max = 32
"""Deepest nesting of &&, || and NOT. The parser takes a few frames a level of 1,000."""

filter_rules_max = 1_000
"""Most rules in one filter. SQLite allows expressions a little deeper than that."""

filter_patterns_max = 50
"""Most regular expressions in one filter. Compiling the costliest takes 8 ms; /a|b/ joins two."""

filter_values_max = 10_000
"""Most values in all IN and CONTAINS lists of a filter. SQLite takes 32,766 variables."""

filter_cache_entries = 1_024
"""Compiled filters kept, by text. A server has few distinct filters; a client has tens."""

regex_pattern_chars_max = 1_000
"""Longest regular expression of a filter."""

regex_size_max = 2_000
"""Most characters, classes and anchors of a pattern, counted repeats written out: (ab){9} is 18."""

regex_program_bytes_max = 1_048_576
"""Memory that one compiled regular expression may take."""

regex_work_max = 64_000_000
"""Largest product of a pattern's size and the bytes of one text: a second for the worst."""

regex_cache_entries = 256
"""Compiled regular expressions kept, by text. Each may take regex_program_bytes_max."""

regex_budget_ms = 250
"""Time that all regular expressions of one request may take together before it is refused."""

path_chars_max = 128
"""Longest Flow path (protocol 1.3)."""

flow_capacity_max = 100_000
"""Largest capacity of a Flow, in Drops (protocol 1.5)."""

flow_capacity_default = 1_000
"""Capacity of a Flow that names none, in Drops (protocol 1.5)."""

flow_history_max = 100_000
"""Largest history of a Flow, in ended rows (positions 3)."""

flow_history_default_max = 1_000
"""History of a Flow that names none: its capacity, at most this many ended rows (positions 3)."""

flow_history_bytes_max = 16 * 1024 * 1024
"""Bytes of ended rows that one Flow keeps, whatever its history (positions 3)."""

find_limit_default = 20
"""Results of a find that names no limit (protocol 3.6)."""

find_limit_max = 100_000
"""Largest limit of a find: a Flow's capacity (protocol 3.6)."""

answer_bytes_max = 64 * 1024 * 1024
"""Largest answer (protocol 3.6)."""

body_bytes_max = 1024 * 1024
"""Largest request body, also after gunzip (protocol 12)."""

body_array_bytes_max = 16 * 1024 * 1024
"""Largest body of an array create, also after gunzip (protocol 12)."""

array_create_entries_max = 10_000
"""Most Drops in one array create (protocol 12)."""

origin_stream_chars_max = 250
"""Longest name of a stream in the origin of an entry (positions 9)."""

origin_reason_chars_max = 250
"""Longest reason with which a sender settles numbers without sending anything."""

origin_lines_max = 10_000
"""Most lines (streams of outboxes) of one device or account. Marks are kept for ever, so a new line
beyond is refused, and no old one is forgotten (positions 9)."""

origin_skips_kept = 100
"""Newest skipped ranges that are kept of each line; all are counted (positions 9)."""

upload_piece_bytes_max = 524_288
"""Most bytes of one piece of an upload: one is sent again whole when an answer is lost."""

upload_pieces_max = 1_024
"""Most pieces of an upload; they are numbered from 0."""

upload_bytes_max = 64 * 1024 * 1024
"""Most bytes of an upload, and of a payload that is put together from chunks or messages."""

uploads_unfinished_max = 1_000
"""Most uploads of one device or account that no entry has claimed yet."""

uploads_unfinished_bytes_max = 256 * 1024 * 1024
"""Most bytes of the same."""

upload_kept_s = 604_800.0
"""Seconds after its last piece that an upload which no entry has claimed is kept: a week, since
devices may be offline for days."""

stream_name_chars_max = 100
"""Longest name of a stream, and of a group of streams."""

message_name_chars_max = 250
"""Longest name of a message, batch, slice or chunk, and longest pattern that makes one."""

message_names_kept = 10_000
"""Newest messages of a device to a stream whose names are kept, so that one that comes again under
the same name is noticed. What is sent again by the same outbox is noticed for ever by its mark."""

message_elems_bytes_max = 1_048_576
"""Payload up to which a JSON object becomes elements; a larger one is kept as bytes."""

message_properties_max = 50
"""Most properties of a message; names and values have at most message_name_chars_max characters."""

batch_slices_max = 100
"""Names of slices that the completion of a batch lists; further ones are left out."""

assemblies_max = 100
"""Most messages in chunks of one device to one stream that are not complete."""

payload_part_bytes_max = 1_048_576
"""Most bytes of a payload in one answer; it is read part by part."""

fhash_chars_max = 1_024
"""Longest fhash of a Drop: it stands in an index (protocol 1.4)."""

many_ids_max = 10_000
"""Most ids or entries in one MGET or MPUT: the same as an array create (protocol 12)."""

find_flows_max = 1_000
"""Most Flows in one find over several of them; each is a query of its own (protocol 3.5)."""

batch_requests_max = 500
"""Most reads in one POST /batch (protocol 3.5)."""

waves_kept_max = 10_000
"""Waves that one api.lazy() or api.async_() remembers for explain()."""

wave_ids_max = 1_000
"""Most ids in one MGET that the client makes of a wave of reads."""

wave_finds_max = 500
"""Most finds in one MGET that the client makes of a wave: 20 drops each are some 5 MB."""

wave_bytes_max = 512 * 1024
"""Bytes of entries after which the client begins another POST /batch: half of a body's bound."""

request_id_chars_max = 128
"""Longest X-Request-Id; flowkit's own is 32 characters (protocol 3.2)."""

elems_depth_max = 100
"""Most levels of maps and lists inside each other in a body (protocol 2.1)."""

integer_min = -(2**63)
"""Smallest whole number that can be stored (protocol 2.1)."""

integer_max = 2**63 - 1
"""Largest whole number that can be stored (protocol 2.1)."""

request_line_bytes_max = 65_536
"""Longest request line (protocol 3.4, status 414)."""

request_head_bytes_max = 131_072
"""Most bytes of request line and headers together."""

request_headers_max = 100
"""Most headers of one request; browsers and clients send about ten."""

chunk_line_bytes_max = 1_024
"""Longest line between the chunks of a chunked body, with its extensions; trailers together too."""

request_head_timeout_s = 10.0
"""Seconds in which a request's headers must have arrived."""

request_body_timeout_s = 60.0
"""Seconds in which a request's body must have arrived."""

keep_alive_timeout_s = 75.0
"""Seconds that the server keeps an idle connection open."""

body_aside_bytes_min = 65_536
"""Bodies from this size on are worked off beside the event loop: parsing one takes milliseconds."""

bodies_bytes_max = 256 * 1024 * 1024
"""Bytes of all bodies under way, as sent and unpacked; beyond it those from 64 KiB on are answered
503. A body is read before its token, and one from each connection would fill any memory."""

bodies_aside_max = 4
"""Large bodies that are worked off at once; each has a thread, the next one waits."""

response_stall_timeout_s = 30.0
"""Seconds for the next 256 KiB of an answer to leave; a client that reads nothing is let go."""

answer_bytes_per_s_min = 65_536
"""Slowest pace at which a client may read a large answer, on the whole: it gets one second for each
so many bytes beside response_stall_timeout_s. An answer is held in memory until it has left."""

answers_bytes_max = 512 * 1024 * 1024
"""Bytes of all large answers on their way; beyond it a read is answered 503 instead of one more."""

loop_sample_s = 0.1
"""Seconds between two looks at whether the event loop of the HTTP server comes late."""

linger_timeout_s = 5.0
"""Seconds that a refused request may go on sending, so that its client gets to read the refusal."""

connections_max = 8_192
"""Most connections that a server holds; the next one waits. An idle one takes some 10 KiB."""

gzip_members_max = 64
"""Most members of one gzip body; each costs some memory before it yields a byte."""

gzip_bytes_min = 1_400
"""Smallest answer that is compressed: below one network packet there is nothing to gain."""

shutdown_timeout_s = 10.0
"""Seconds that a stopping server gives requests under way."""

background_stop_s = 8.0
"""Seconds that a stopping server gives tracks, tasks and scripts, each; longer than one script may
run (``script_time_s``). What is not done then stands in the store and is done after the next start.
"""

rate_buckets_max = 10_000
"""Credentials whose use is counted for the rate limit, and as many addresses without a good one.
Some 200 bytes each; beyond, the one that was used longest ago begins anew."""

rate_entries_per_request = 100
"""Entries of one array or of many ids that count as one request for the rate limit."""

log_lines_max = 10_000
"""Lines of the log that wait to be written; what comes beyond is dropped, and counted."""

log_flush_s = 1.0
"""Seconds that the end of the process waits for the log to be written."""

health_timeout_s = 2.0
"""Seconds in which reader and writer must answer for ``GET /health`` to say ok."""

health_fresh_s = 1.0
"""Seconds that one look at the store serves all who ask for ``/health``: no token is needed there.
"""

query_timeout_s = 10.0
"""Seconds that one database query may run before it is refused."""

replay_window_s = 600.0
"""Seconds that the answer to a request with X-Request-Id is kept (protocol 3.2)."""

store_readers_default = 4
"""Threads that read from the store side by side, each with a connection of its own."""

reader_turn_s = 0.001
"""Seconds that a read may work on rows in Python before it lets other threads work: the interpreter
hands itself over after five times as long, and each step of another request may wait for that."""

reader_pause_s = 0.0001
"""Seconds of the pause in which it does; waking another thread takes about half of it."""

store_queue_jobs_max = 10_000
"""Jobs that wait for the store's threads, reads and writes each; more are answered 503 at once."""

store_read_wait_s = 20.0
"""Seconds after which a read that found no free thread is answered 503: its caller is about to give
up (``timeout_default_s``), and after a flood of long queries nobody waits for those of the past."""

store_batch_jobs_max = 1_000
"""Most writes that share one commit."""

store_batch_time_s = 0.05
"""Seconds after which a commit takes no further writes, so that the first need not wait long."""

store_large_entries_min = 500
"""Entries from which on an array create is a large write: each has a commit of its own, behind the
writes that wait and are not large. This many take the writer some ten milliseconds."""

store_later_s = 0.5
"""Seconds that a count of the statistics may wait for a write to go with; then it goes alone.
"""

store_flows_cached = 10_000
"""Flows whose numbers the writer keeps in memory between commits; some 2 KiB each."""

kept_answers_bytes_max = 2 * 1024 * 1024 * 1024
"""Bytes of all kept answers, whatever the window; beyond it the oldest go. Five thousand writes a
second for the whole window take less; answers to large arrays would take any disk."""

answer_sweep_s = 30.0
"""Seconds between two removals of kept answers that are older than the replay window."""

url_bytes_max = 4_096
"""Longest URL that the client sends; a longer find goes as POST with an override (protocol 3.5)."""

timeout_default_s = 30.0
"""Seconds that one call of the client may take, retries included."""

retries_default = 3
"""Times that a call which is safe to repeat is repeated."""

retry_first_delay_s = 0.1
"""Seconds before the first repetition; each further one waits twice as long."""

retry_delay_max_s = 10.0
"""Longest wait between two repetitions, unless the server asks for more."""

pace_hold_max_s = 300.0
"""Longest time that one 429 with Retry-After holds back the other calls of an API."""

find_iter_page_max = 1_000
"""Objects that find_iter fetches with one request."""

requests_in_flight_default = 32
"""Requests that async_() and lazy() have on the wire at once, unless a pool is given."""

connect_timeout_s = 10.0
"""Seconds that one connection may take, TLS included, within the time of the call."""

answer_slack_bytes = 1024 * 1024
"""Bytes beyond the largest answer that the client still reads: the head, and the envelope."""

idle_connection_s = 60.0
"""Seconds after which the client drops an idle connection, before the server does."""

connections_idle_max = 64
"""Idle connections that one client keeps per event loop, and for all plain threads together."""

connections_max_default = 256
"""Requests that one client has on the wire at once, whoever asks. Beyond it callers wait."""

cancel_timeout_s = 5.0
"""Seconds that stopping parallel calls waits for them to let go of their connections."""

objects_max = 10_000
"""Most objects of one kind (tracks, tokens, shares, groups, devices, tasks) of one account. The
Tokens of its devices do not count."""

credential_duration_ms_max = 100 * 365 * 24 * 3_600 * 1000
"""Longest duration of a Token or Share, in ms: 100 years. Beyond that it is meant to be none."""

device_id_chars_min = 4
"""Shortest id of a device; shorter ones are too easily given twice."""

device_id_chars_max = 90
"""Longest id of a device; a Flow path has room for it behind the name of most accounts."""

properties_bytes_max = 32 * 1024
"""Largest desired or reported document of a device, as compact JSON: it fits into one drop and
one answer on any link, and a device can hold it in memory."""

properties_depth_max = 10
"""Deepest nesting of a document of properties, itself counted."""

property_text_bytes_max = 4 * 1024
"""Longest text in a document of properties."""

tags_bytes_max = 8 * 1024
"""Largest document of tags of a device, as compact JSON."""

provisioning_expiry_ms = 3_600_000
"""Time that an operation of provisioning waits for its approval, and then for its device."""

provisioning_kept_ms = 3_600_000
"""Time that an operation which has expired can still be read, before the next one sweeps it."""

provisioning_pending_per_token_max = 100
"""Operations of one provisioning token that wait at once: a stolen token cannot flood a list."""

provisioning_pending_per_account_max = 1_000
"""The same of all provisioning tokens of an account."""

provisioning_retry_s = 60.0
"""Seconds that a device is asked to wait when too many operations are pending."""

registration_grace_ms = 3_600_000
"""Time that the registration token of a device works on after it was refreshed, since the answer
with the new one may have been lost."""

reported_bytes_per_request_max = 4 * 1024 * 1024
"""Bytes of reported documents that the entries of one line write in one request: each writes its
document whole, and there is one writer. The rest of the line comes with the next request."""

device_seen_ms = 24 * 3_600_000
"""A device counts as seen, in the metrics, if it spoke of itself within this time."""

shares_per_receiver_max = 100
"""Most live Shares from one account to one receiver: each request of the receiver looks at all."""

grant_paths_max = 100
"""Most paths in one Token or Share."""

group_members_max = 1_000
"""Most members of one Group."""

track_destinations_max = 100
"""Most destinations of one Track."""

track_hops_max = 16
"""Tracks that a Drop may come through; then it is stored and runs no more (protocol 6.5)."""

track_batch_deliveries_max = 200
"""Most Drops that one Track takes in one commit; the writer is nobody else's meanwhile."""

track_batch_time_s = 1.0
"""Seconds after which a Track's turn takes no further Drops, so that slow scripts take turns."""

track_retry_s = 1.0
"""Seconds after which a Track is tried again that the store could not serve."""

track_batch_bytes_max = 8 * 1024 * 1024
"""Bytes of waiting Drops that are taken for one run of a Track; at least one Drop is taken."""

track_backlog_max = 100_000
"""Most Drops that wait for the Tracks of a Flow; beyond it the oldest are skipped, and counted."""

track_outputs_max = 1_000
"""Most Drops that one run of a script may return."""

script_time_s = 5.0
"""Seconds that one run of a script may take (protocol 6.3)."""

script_memory_bytes = 64 * 1024 * 1024
"""Memory that one run of a script may take (protocol 6.3)."""

script_chars_max = 262_144
"""Longest script."""

script_processes_max = 4
"""Child processes that run scripts side by side; a hung one occupies one until its time is up."""

backtest_time_s = 20.0
"""Seconds that one backtest may run; what it has until then is its answer."""

backtest_shown_max = 100
"""Most Drops and most failures that the answer of a backtest shows whole."""

backtest_drops_max = 10_000
"""Most Drops of a Flow's history that one backtest runs through."""

aggregate_rows_max = 100_000
"""Most rows of one aggregation."""

aggregate_selectors_max = 100
"""Most entries in each of output, groupBy, rules and sorts of an aggregation."""

task_periodicity_ms_min = 60_000
"""Shortest period of a task (protocol 7.5)."""

task_periodicity_ms_max = 10 * 366 * 86_400_000
"""Longest period of a task: ten years, so that times stay times."""

task_timeout_s = 30.0
"""Seconds that the request of a task may take; then its status is TIMEOUT (protocol 7.5)."""

task_threads_max = 4
"""Runs of tasks side by side; one slow server must not hold up the tasks of others."""

rss_entries_seen_max = 10_000
"""Entries of a feed that its task remembers, so that none comes twice; 16 bytes each."""

task_jitter = 0.05
"""Part of its period by which the runs of a task are spread, so that not all start at once."""

task_drops_max = 10_000
"""Most Drops that one run of a task may write."""

lease_duration_s = 15.0
"""Seconds that a runner of tasks holds its lease; it prolongs it after a third of that."""

outgoing_bytes_max = 16 * 1024 * 1024
"""Largest answer that a task or script fetches from elsewhere, unpacked."""

outgoing_redirects_max = 5
"""Redirects that one fetch follows; each target is checked like the first."""

outgoing_timeout_s = 30.0
"""Seconds that one fetch of a script may take; its own time counts on."""

inbox_capacity = 1_000
"""Notifications that an account's :inbox keeps (protocol 1.13)."""

reports_capacity = 1_000
"""Reports that the flow of a task keeps (protocol 1.13)."""

session_unused_s = 60.0
"""Seconds that a session waits for its first connection (protocol 9.1)."""

session_idle_s = 90.0
"""Seconds without any frame from a client after which the server closes with 1001 (9.5)."""

session_ping_s = 30.0
"""Seconds between two pings of the server (protocol 9.5)."""

session_resume_s = 30.0
"""Seconds that a session outlives its connection, for clients that come back to it (protocol 9.1).
flowkit's own makes a new session and resumes from its places."""

heartbeat_s = 20.0
"""Seconds between two heartbeats of the client (protocol 9.5)."""

silence_s = 60.0
"""Seconds in which a client must hear something, a pong included, or it connects anew (9.5)."""

sessions_max = 8_192
"""Most sessions of a server at once; further ones are refused with 503 until some have ended. Never
more than half of the files that the process may open: each session takes one."""

subscriptions_max = 1_000
"""Most subscriptions of one session; each is looked at for every change of its flow."""

frame_bytes_max = 1024 * 1024
"""Largest message that a client may send over a socket (protocol 9.6); more closes it with 1009."""

commands_at_once_max = 16
"""Commands of one connection that are worked on side by side; the next one is read after that."""

push_queue_messages_max = 1_000
"""Messages that wait for one slow connection before its readers' ``slow`` decides (positions 8)."""

push_queue_bytes_max = 4 * 1024 * 1024
"""The same in bytes. The largest drop fits in, whatever waits before it is bounded by this."""

push_stall_s = 60.0
"""Seconds in which a socket must take anything of what waits for it, or it is closed."""

replay_page_changes_max = 1_000
"""Most changes, or rows of a snapshot, that one transaction of a replay reads."""

replay_pages_at_once_max = 4
"""Pages that are read and sent at once, by all readers that are behind: after a restart all of them
are, and what is pushed to the others must not wait behind their pages."""

progress_changes_max = 1_000
"""Changes that did not match after which a reader is told its position (positions 5.5)."""

progress_s = 10.0
"""Seconds after which it is told, if any change went by that did not match (positions 5.5)."""

snapshot_bytes_max = 64 * 1024 * 1024
"""Most bytes of a snapshot that is read in one transaction, after two attempts by pages failed."""

commit_changes_max = 20_000
"""Most changes of one commit handed to subscribers at once; beyond, each reads the store."""

told_changes_max = 50_000
"""Changes of commits that wait to be handed to subscribers; beyond, each reads the store."""

hub_turn_s = 0.1
"""Seconds for which changes are handed out in one go, before anything else has its turn again:
connections that came, and credentials that are looked at again."""

recheck_s = 0.25
"""Seconds between two looks at credentials that may have expired; a revoked one is seen at once."""

fault_proxy_held_bytes_max = 1024 * 1024
"""Bytes under way in one direction of a fault proxy's connection: 0.1 s of latency at 10 MB/s."""

fault_proxy_connect_timeout_s = 10.0
"""Seconds within which the target of a fault proxy must answer, or the connection is reset."""

fault_proxy_log_lines_max = 10_000
"""Newest lines of a fault proxy's log that are kept."""

reconnect_first_delay_s = 0.2
"""Seconds before a lost subscription connection is made anew; each further attempt waits twice as
long, and all wait between half and the whole of it, so that clients do not come back together."""

reconnect_delay_max_s = 30.0
"""Longest wait between two attempts to connect a subscription."""

resubscribe_delay_max_s = 10.0
"""Longest wait between two attempts to subscribe to a flow that is not there at the moment."""

close_timeout_s = 2.0
"""Seconds that closing a subscription connection waits for the server to say good-bye, too."""

inbox_messages_max = 10_000
"""Messages that wait in the client for a slow handler or loop; then it takes no more of them."""

inbox_bytes_max = 16 * 1024 * 1024
"""The same in bytes, as received."""

commands_waiting_max = 1_000
"""Commands and subscriptions of a runner that wait for a connection or a reply at once."""

unsent_bytes_max = 16 * 1024 * 1024
"""Bytes of messages that wait for a server which takes none; more are refused."""

place_write_s = 0.05
"""Seconds between two writes of a resume file while messages come without a pause."""

place_sync_s = 1.0
"""Seconds between two times that a resume file is made safe against a loss of power."""

session_goodbye_s = 1.0
"""Seconds that a WebSocket which the server has closed may take to close, too."""

poll_wait_s = 25.0
"""Seconds that a long poll waits for a message; below what proxies allow an answer to take."""
