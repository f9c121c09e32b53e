"""The folder proved and recorded readings imported.

    verify      proves that averages and reports follow from the raw log
    rebuild     derives them again from it
    replay      imports recorded readings
    recording   reads the files of a replay

Imported by `cli` only.
"""
