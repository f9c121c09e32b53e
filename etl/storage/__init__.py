"""The output folder: no other room opens, writes, fsyncs, renames or deletes files in it.

    folder         its layout, its days, its lines read back
    places         lines found by number or offset, and read backwards
    latest         what the ends of the logs say: last readings, averages and events, positions, who is down
    settings_log   which settings govern which lines
    atomic         files written completely or not at all
    appender       lines appended to day files
    events         the events log
    lock           one process writes at a time
    space          whether the file system takes lines
    recovery       the end of the folder made consistent; averages derived again
    staging        days built aside and moved into place
    retention      closed days compressed and deleted

Imported by `cli`, `live`, `audit` and `nightly`.
"""
