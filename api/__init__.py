"""The Flask application: simulated machines, and the console of a running process. It imports nothing of etl.

    app          the WSGI application, from the parts below
    machines     the simulated machines
    routes       /data, /status and /machines
    console      the console and the state of a running process, which the caller passes in as `Views`
    pages        reports and the pages of machines, stored or made on demand
    export       a machine's day of averages as CSV
    docs         /openapi.json and /docs
    guard        refuses requests from other sites, under other names, or without the token
    proxy        the headers of a reverse proxy
    server       the WSGI server
    connections  its connections, bounded against clients that are slow, silent or send too much
    __main__     python -m api: the simulated machines alone

Imported by `etl.cli` only.
"""
