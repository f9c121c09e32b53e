"""The output folder: nobody else opens, writes, syncs, renames or deletes anything in it.

    folder      its layout, its days, its lines read back
    log         lines appended, files written whole, the lock
    events      the events log
    recover     the end of the folder put right at start, and the fold over its days
    retention   closed days compressed and deleted

Imported by `cli`, `live`, `audit` and `nightly`.
"""
