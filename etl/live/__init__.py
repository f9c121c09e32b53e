"""The running pipeline: polls become lines, and what is known of each source now.

    pipeline   the parts that turn polls into files, put together from the config
    schedule   when to poll: the only import of APScheduler
    poller     which polls are in flight
    writer     answers become raw lines, then averages lines; each written batch goes to the sinks
    standing   what is known of every source: up, silent, down; whether readings are written
    no_number  machines that send no number for a parameter: an event and a log line
    night      the nightly job: reports by a child process, retention
    stdout     the lines on stdout
    console    what the console shows: the last readings of every machine
    metrics    Prometheus text
    notify     notifications to notify.url
    signals    SIGTERM, SIGINT, SIGHUP
    systemd    the service manager and its watchdog

Imported by `cli` only.
"""
