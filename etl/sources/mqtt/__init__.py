"""MQTT: messages of a broker go to the writer as they arrive, and are acknowledged once they are written.

    transport     the sources of the kind, each with a subscription
    subscription  the thread of one source: polls, and one connection after the other
    connection    reads messages and acknowledges them, until the connection ends
    session       which messages were read and are not acknowledged yet; which are sent again
    client        a paho client for one connection, and the failures that it ends with

The only import of paho-mqtt.
"""
