"""A closed day becomes a report.

    due           which days are due; the errors of a damaged day
    night         makes a report in this process or in a child
    report        the report of a day, made and written
    day           reads and analyzes a day's raw log
    column_store  the day's columns in a temporary file, read back by machine
    history       what passes from one night to the next
    executors     runs the analysis in one process, in several, or on a cluster
    child         calls a function in a child process at low priority

`due`, `night` and `child` do not load numpy; `live` and `etl run` import only these. Imported by `cli`, `live` and
`audit`.
"""
