"""What a person runs: a file per command, loaded when it is called.

    app        the commands, and the parts put together
    status     how everything stands, from the folder alone
    progress   progress of long work, on stderr
    logs       the log on stderr, as text or JSON

Imported by `etl.__main__` only.
"""
