"""A closed day becomes a report; any day becomes pages on demand.

    due           which days are due; the errors of a day that cannot be reported
    job           the orders to child processes, and their results
    run           runs a job
    report        the report of a day, made and written
    day           reads and analyzes a day's raw log
    column_store  the day's columns in a temporary file, read back by machine
    thinning      a day's series thinned for its charts
    history       what passes from one night to the next
    on_demand     answers an order for a page
    machine_page  the page of a machine and day, the charts of its last hours
    machine_lines  reads one machine out of a day's files
    stored_reports  reads stored reports back: summaries, incidents of a machine
    executors     runs the analysis in one process, in several, or on a cluster

`due` and `job` do not load numpy; `live` imports only these. Imported by `cli`, `live` and `audit`.
"""
