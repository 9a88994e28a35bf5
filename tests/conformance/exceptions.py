"""The tests of CPython's that are not run, or not compared, each with its reason.

Names are those of the reports, `module.class.method`, and may hold wildcards. Whatever is not named
here must pass.
"""

from fnmatch import fnmatchcase

# Not run.
SKIPPED = {
    "test_events.AbstractEventLoopTests.test_not_implemented": "makes no loop",
    "test_events.HandleTests.test_c*": "tests asyncio.Handle by itself, without a loop",
    "test_events.HandleTests.test_handle": "tests asyncio.Handle by itself, without a loop",
    "test_events.HandleTests.test_handle_[rw]*": "tests asyncio.Handle by itself, without a loop",
    "test_events.TimerTests.*": "tests asyncio.TimerHandle by itself, without a loop",
    "test_events.PolicyTests.test_*event_loop_policy": "makes no loop",
    "test_events.PolicyTests.test_get_event_loop_after_set_none": "makes no loop",
    "test_events.PolicyTests.test_get_event_loop_thread": "makes no loop",
    "test_events.TestAbstractServer.test_[cg]*": "makes no loop",
    "test_runners.RunnerTests.test_custom_factory": "runs on a mock of a loop",
    "test_subprocess.GenericWatcherTests.test_create_subprocess_with_pidfd": (
        "wants another test to have called set_event_loop() in its process; without one it fails "
        "on the standard loop as well (3.12)"
    ),
    "test_subprocess.MultiLoopChildWatcherTests.*": "makes no loop",
    "test_tasks.*IntrospectionTests.*": "tests the registry of tasks, without a loop",
    "test_tasks.GenericTaskTests.*": "tests asyncio.Task by itself, without a loop",
    "test_unix_events.*ChildWatcherTests.*": "tests the child watchers by themselves",
    "test_unix_events.PolicyTests.test_get_*_watcher*": "tests the policy by itself",
}

# Run, since flowcore inherits what they look at, but no measure of other loops.
INTERNAL = {
    "test_events.*.test_create_server_multiple_hosts_ipv?": "replaces loop._start_serving()",
    "test_events.*.test_internal_fds": "reads the self-pipe's fields",
    "test_events.*.test_prompt_cancellation": "calls loop._stop_serving()",
    "test_events.*.test_timeout_rounding": "replaces loop._run_once() and loop._selector",
    "test_events.*.test_unclosed_pipe_transport": "sets transport._pipe",
    "test_pep492.*": "replaces loop._selector and loop._process_events()",
    "test_runners.*": "replaces loop._selector and loop._process_events()",
    "test_sendfile.*.test_sendfile_fallback_close_peer_*": "replaces loop._sendfile_native()",
    "test_sendfile.*.test_sendfile_force_*": "replaces loop._sendfile_native()",
    "test_sendfile.*.test_sendfile_no_fallback_*": "sets transport._sendfile_compatible",
    "test_ssl.*.test_flush_before_shutdown": "calls methods of transport._ssl_protocol",
    "test_sslproto.SslProtoHandshakeTests.*": "tests asyncio.sslproto, whatever the loop uses",
    "test_subprocess.*.test_pause_reading": "expects the pipes to be made by connect_read_pipe()",
    "test_subprocess.*.test_popen_error*": "replaces subprocess.Popen",
    "test_subprocess.GenericWatcherTests.*": "tests the policy's child watchers",
    "test_unix_events.PolicyTests.*": "tests the policy's child watchers",
    "test_unix_events.SelectorEventLoopSignalTests.*": "replaces asyncio.unix_events.signal",
    "test_unix_events.SelectorEventLoopUnixSockSendfileTests.*": (
        "calls loop._sock_sendfile_native()"
    ),
    "test_unix_events.*.test_create_unix_server_bind_error": "replaces asyncio.unix_events.socket",
}


def reason(table: dict[str, str], name: str) -> str | None:
    """Why the table names a test; None if it does not."""
    for pattern, why in table.items():
        if fnmatchcase(name, pattern):
            return why
    return None
