"""Machine telemetry: polls machines, keeps every reading and its moving averages, reports the day's anomalies.

The map of the program, from the edge inwards:

    __main__   the command line, one function a verb
    app        puts the parts together; the only file that reads the clock
    pipeline   the parts that turn polls into files, put together
    schedule   when: APScheduler jobs on a fixed grid of moments
    tick       one tick: read, average, write
    report     one night: read the day, analyze, write the report
    verify     the folder proved: averages and reports follow from the raw log, line by line
    rebuild    both derived anew where they do not
    recover    the end of the folder put right, at start and after a disturbance
    retention  what becomes of closed days: compressed, deleted
    metrics    what the process counts, as Prometheus text
    shown      what the console shows of it, as JSON
    http_requests, http_curl, file_source     readings from machines and files, none waiting for another
    http_source, http_sockets, workers        what every poll over HTTP keeps to; deadlines; threads
    log, folder, events, stdout           the output folder written and read back; lines for the terminal
    signals    what the process is asked from outside
    config     settings: typed, frozen, strict; document reads the YAML and knows the place of each value
    derive     averages lines follow from raw lines: the one fold everything shares
    wire       bytes <-> records
    traces     the last readings of every machine, in memory, for the console
    averages, rewind, analysis, days, clock    the arithmetic; pure
    records    what passes between them

The raw log with settings.jsonl is the only state: everything else is derived from it, and can be derived again.
"""

from etl.analysis import analyze_values

__all__ = ["analyze_values"]
