"""The vocabulary that every layer speaks: frozen values, standard library only, no I/O.

Times are integer nanoseconds since the Unix epoch (UTC); sizes are bytes; names of protocols are
lower case. JSON shapes come from the `as_json` functions beside each type.
"""
