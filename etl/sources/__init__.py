"""Sources: a machine, polled over HTTP or through a file, becomes answers.

    contract         Transport, the source structs, size caps, failure sentences
    registry         which transport the config's `transport` opens
    poll_threads     threads for blocking polls; each poll is delivered once, by its deadline
    http_request     what every HTTP transport sends: URL, headers, login, proxy
    http_digest      the login by digest
    http_answer      what every HTTP transport takes for an answer
    http_requests    HTTP over requests, the default; also `post` for notifications
    http_connection  its connections: the socket of the poll in flight
    http_response    its answers, read from the socket
    http_curl        HTTP over libcurl: one thread, for fleets
    http_transfer    a libcurl handle and what it received
    files            polls of files, and JSON documents
    following        a followed file: renamed, cut, rewritten, copied
    advice           what to change at a source without an answer, or without numbers
    intake           the memory of answers until they are written, bounded for all sources together
    extraction       `records`: answers of any transport are split into records

To add a kind of source (MQTT, OPC UA, Modbus): a struct in `contract`, a module here with a class that has the two
methods of `Transport`, and where it competes with another transport an entry in `registry`. A client library that
blocks runs on `PollThreads`; one with an event loop delivers from its own thread, as `http_curl` does. The tests in
tests/sources run over every HTTP transport: add the class to TRANSPORTS in tests/support/http_sources.py.

`live` and `cli` import this room.
"""
