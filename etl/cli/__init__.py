"""What a person runs: a file per command, imported when the command is called.

    main           the command line
    command        options, loading the config, locking the output folder, progress bars, endings
    exits          exit codes
    run            etl run: the long-lived process
    serving        its API
    once           etl once
    report         etl report
    init           etl init
    check          etl check
    try_           etl try
    replay         etl replay
    verify         etl verify
    rebuild        etl rebuild
    status         etl status
    alarms         etl alarms
    export         etl export
    logs           the log on stderr

Imported by `etl.__main__` only.
"""
