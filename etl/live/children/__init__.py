"""What `etl run` leaves to child processes at low priority.

night  the nightly job: reports by a child process, retention
"""
