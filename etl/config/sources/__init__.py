"""The kinds of source: for each, a struct with its keys, their hints, and what its types cannot express.

kinds        the kinds there are, by the key that chooses each, and how an entry of `sources` becomes one of them
base         what every kind has
http         `url`: over HTTP
file         `file`: a JSON file
opcua        `opcua`: an OPC UA server
modbus       `modbus`: a device over Modbus TCP
mqtt         `mqtt`: topics of a broker
expressions  JMESPath expressions that cannot be used as `records`
"""
