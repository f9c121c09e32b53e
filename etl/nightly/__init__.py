"""A closed day becomes a report; any day becomes pages on demand.

    due           which days are due; the errors of a day that cannot be reported
    job           the order to report a day, and its result
    run           runs a job
    report        the report of a day, made and written
    day           reads and analyzes a day's raw log
    column_store  the day's columns in a temporary file, read back by machine
    thinning      a day's series thinned for its charts
    history       what passes from one night to the next
    on_demand     pages on demand: their orders, and what a child process makes
    executors     runs the analysis in one process, in several, or on a cluster

`due`, `job` and `on_demand/orders` do not load numpy; `live` imports only these. Imported by `cli`, `live` and `audit`.
"""
