"""Machine telemetry: polls machines, keeps every reading and its moving averages, reports the day's anomalies.

The map of the program, from the edge inwards:

    __main__   the command line, one function a verb
    app        puts the parts together; the only file that reads the clock
    pipeline   the parts that turn polls into files, put together
    schedule   when: APScheduler jobs on a fixed grid of moments
    tick       one tick: read, average, write
    night      a closed day's report, made here or in a child, by one process, several, or a cluster
    report     the day's analysis as a report, written
    analyzing  a day's raw log read and analyzed, machine by machine
    spill      its columns set aside on the disk, and read back by machine
    history    what passes from night to night
    replay     recorded readings folded in; recording reads them
    verify     the folder proved: averages and reports follow from the raw log, line by line
    rebuild    both derived anew where they do not
    recover    the end of the folder put right, at start and after a disturbance
    retention  what becomes of closed days: compressed, deleted
    status     how everything stands, from the ends of the files
    metrics    what the process counts, as Prometheus text
    shown      what the console shows of it, as JSON
    http_requests, http_curl, file_source     readings from machines and files, none waiting for another
    http_source, http_sockets, workers        what every poll over HTTP keeps to; deadlines; threads
    log, folder, events, stdout           the output folder written and read back; lines for the terminal
    signals    what the process is asked from outside; service  what it tells the manager that started it
    notify     what people are told at notify.url
    logs       its log on stderr
    progress   how far long work is, for the terminal
    executors, child                      where work is done: worker processes, a cluster, a child at low priority
    config     settings: typed, frozen, strict; document reads the YAML and knows the place of each value
    schema     config's JSON Schema, for editors
    derive     averages lines follow from raw lines: the one fold everything shares
    judging    one machine's day: incidents, notes, what is known afterwards
    incidents, guards, detectors, bands    what is worth reading in a day's values; pure, with numpy
    wire       bytes <-> records
    columns    the day's analysis, for many machines at once; pure, with numpy
    traces     the last readings of every machine, in memory, for the console
    averages, rewind, analysis, days, clock    the arithmetic; pure
    records    what passes between them

The raw log with settings.jsonl is the only state: everything else is derived from it, and can be derived again.
"""

from etl.analysis import analyze_values

__all__ = ["analyze_values"]
