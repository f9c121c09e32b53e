"""A closed day becomes a report.

    night       a report made, in this process or in a child
    report      the day's analysis as a report, written
    day         a day's raw log read and analyzed
    column_store  its columns in a temporary file, read back by machine
    history     what passes from one night to the next
    executors   one process, several, or a cluster
    child       a function in a process of its own at low priority

Imported by `cli`, `live` and `audit`.
"""
