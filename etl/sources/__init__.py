"""Sources: a machine, polled over HTTP or through a file, becomes answers.

    contract     Transport, the source structs, size caps, failure sentences
    registry     which transport the config's `transport` opens
    poll_threads threads for blocking polls; each poll is delivered once, by its deadline
    http         HTTP over requests and over libcurl
    files        polls of files, and JSON documents
    following    a followed file: renamed, cut, rewritten, copied
    advice       what to change at a source without an answer, or without numbers
    not_json     what an answer is that is not JSON
    intake       the memory of answers until they are written, bounded for all sources together
    extraction   `records`: answers of any transport are split into records

To add a kind of source (MQTT, OPC UA, Modbus): a struct in `contract`, a module here with a class that has the two
methods of `Transport`, and where it competes with another transport an entry in `registry`. A client library that
blocks runs on `PollThreads`; one with an event loop delivers from its own thread, as `http/curl_transport` does. The
tests in tests/sources run over every HTTP transport: add the class to TRANSPORTS in tests/support/http_sources.py.

`live` and `cli` import this room.
"""
