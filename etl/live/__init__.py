"""The running pipeline: polls become lines, and what is known of each source now.

    pipeline   the parts that turn polls into files, put together from the config
    schedule   when to poll: the only import of APScheduler
    poller     which polls are in flight
    receipts   which polls wait for their lines to be durable, so that a broker is told
    writer     answers become raw lines, then averages lines; each written batch goes to the sinks
    alarms     the alarms that follow from written readings, and their log
    standing   what is known of every source: up, silent, down; whether readings are written
    children   what child processes at low priority do: the nightly job, pages on demand
    sinks      what takes each written batch: stdout, console, raised alarms, the check for numbers
    metrics    Prometheus text
    notifications  what notifications say, and who gets them
    signals    SIGTERM, SIGINT, SIGHUP
    systemd    the service manager and its watchdog

Imported by `cli` only.
"""
