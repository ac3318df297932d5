"""Prints what flufl.bounce's tests expect of its mails, as lines of JSON with mail, recipients and temporary.

Reads the test's source and runs none of it: tuples of a detector, a file, addresses and a flag.
"""

import ast
import json
import sys


def expectations(tests):
    """Returns the addresses of each mail, over all detectors, and whether their failure is temporary."""
    found = {}
    for node in ast.walk(tests):
        if not isinstance(node, ast.Tuple) or len(node.elts) != 4:
            continue
        try:
            _, mail, addresses, temporary = ast.literal_eval(node)
        except ValueError:
            continue
        if isinstance(mail, str) and mail.endswith(".txt") and addresses:
            entry = found.setdefault(mail, {"mail": mail, "recipients": set(), "temporary": temporary})
            entry["recipients"].update(address.decode().lower() for address in addresses)
    return found.values()


with open(sys.argv[1], encoding="utf-8") as file:
    tests = ast.parse(file.read())
for entry in expectations(tests):
    print(json.dumps({**entry, "recipients": sorted(entry["recipients"])}))
