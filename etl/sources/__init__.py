"""Sources: a machine, polled over HTTP or through a file, becomes answers.

    contract     Transport, the context that one is opened with, size caps, failure sentences
    registry     which module and class polls each kind of source
    poll_threads threads for blocking polls; each poll is delivered once, by its deadline
    http         HTTP over requests and over libcurl
    file         JSON files, documents and followed ones
    opcua        OPC UA over asyncua
    modbus       devices and gateways over Modbus TCP
    mqtt         messages of a broker, acknowledged once they are written
    advice       what to change at a source without an answer, or without numbers
    not_json     what an answer is that is not JSON
    intake       the memory of answers until they are written, bounded for all sources together
    extraction   `records`: answers of any transport are split into records

To add a kind of source: one module here with a class that is opened with the sources of the kind
and a `Context`, and that has the two methods of `Transport`; one struct in `config/sources`; one entry in `registry`.
A client library that blocks runs on `PollThreads`; one with an event loop delivers from its own thread, as
`http/curl_transport` does. tests/sources/test_kinds.py runs over every kind, by its entry in tests/support/kinds.py.

`live` and `cli` import this room.
"""
