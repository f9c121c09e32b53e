"""The output folder checked against its raw log, derived again from it, extended by recorded readings, exported.

    verify        checks that averages, alarms and reports follow from the raw log
    snapshot      how far the folder reached when the check began
    logs          the averages and alarms of a day against its raw log
    reports       a report against the one computed again
    differences   where two JSON values differ
    findings      the results of a check, listed up to a limit
    rebuild       derives averages, alarms and reports again
    replay        imports recorded readings
    recording     reads the files of a replay: JSON and CSV (a folder)
    export        lines as a table: CSV and Parquet (a folder)
    backtest      what alarms would have raised on the recorded averages

Imported by `cli` only.
"""
