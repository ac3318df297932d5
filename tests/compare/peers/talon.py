"""Prints the cases of talon's tests of plain text, as lines of JSON with name, body and reply.

Reads the test's source and runs none of it: calls of eq_ whose operands are literals, or names that the test assigns literals to.
"""

import ast
import json
import sys


def literals(function):
    """Returns the names that a test assigns a string to, once."""
    found = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            found[name] = node.value.value if is_text and name not in found else None
    return found


def text(node, names):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return names.get(node.id) if isinstance(node, ast.Name) else None


def cases(function):
    names = literals(function)
    for node in ast.walk(function):
        if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "eq_" and len(node.args) > 1):
            continue
        expected, found = node.args[:2]
        if isinstance(found, ast.Call) and getattr(found.func, "attr", "") == "extract_from_plain":
            reply, body = text(expected, names), text(found.args[0], names)
            if reply is not None and body is not None:
                yield body, reply


with open(sys.argv[1], encoding="utf-8") as file:
    tests = ast.parse(file.read())
for function in tests.body:
    # A decorated test changes talon's limits.
    if isinstance(function, ast.FunctionDef) and not function.decorator_list:
        for number, (body, reply) in enumerate(cases(function), 1):
            name = function.name.removeprefix("test_") + ("" if number == 1 else "-%d" % number)
            print(json.dumps({"name": name, "body": body, "reply": reply}))
