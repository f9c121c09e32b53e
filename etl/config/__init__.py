"""config.yaml: typed, frozen and strict.

    load          load(file): the checked config and what follows from it
    model         the keys: types, ranges, defaults and hints
    sources       the kinds of source: a struct for each
    local_zone    what `timezone: local` means
    problems      what is wrong with a config, with a hint for each problem
    alarms        what is wrong with parameters, their units and their alarms
    receivers     what is wrong with the receivers of notifications
    warnings      what is surely a mistake, but no reason to refuse a config
    addresses     addresses and paths that cannot be used, and what to write instead
    unknown_keys  keys that do not exist, and what to write instead
    document      the YAML: plain values, and the line and column of each
    schema        the JSON Schema, for editors

Imported by `cli`, `live` and `sources`.
"""
