"""What `etl run` leaves to child processes at low priority.

child  runs a child process
night  the nightly job: reports by a child process, retention
"""
