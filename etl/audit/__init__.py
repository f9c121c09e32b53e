"""The output folder checked against its raw log, derived again from it, and extended by recorded readings.

    verify        checks that averages and reports follow from the raw log
    snapshot      how far the folder reached when the check began
    logs          the averages of a day against its raw log
    reports       a report against the one computed again
    differences   where two JSON values differ
    findings      the results of a check, listed up to a limit
    rebuild       derives averages and reports again
    replay        imports recorded readings
    recording     reads the files of a replay
    tables        CSV rows as JSON objects
    epochs        timestamps that are numbers

Imported by `cli` only.
"""
