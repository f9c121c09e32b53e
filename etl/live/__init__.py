"""The running pipeline: polls become lines, and what is known of each source now.

    pipeline   the parts, put together from the config
    schedule   when to poll; the only import of APScheduler
    tick       one tick: poll, write, average
    stdout     lines for stdout, from a thread of their own
    traces     the last readings of every machine, for the console
    console    what the console shows, as JSON
    metrics    Prometheus text
    notify     notifications to notify.url
    signals    SIGTERM, SIGINT, SIGHUP
    systemd    sd_notify and the watchdog

Imported by `cli` only.
"""
