"""Reads mails with Python's email package: a path per line on stdin, a reading as a line of JSON on stdout.

A field that it has no opinion on, because reading it raises, is null.
"""

import email
import email.policy
import hashlib
import json
import re
import sys
from datetime import timezone


def addresses(mail, name):
    return [
        {"name": address.display_name, "email": address.addr_spec}
        for field in mail.get_all(name, [])
        for address in field.addresses
        if address.addr_spec not in ("", "<>")
    ]


def date(mail):
    field = mail["Date"]
    when = field.datetime if field is not None else None
    if when is None:
        return 0
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return int(when.timestamp())


def ids(mail, name):
    return [id for field in mail.get_all(name, []) for id in re.findall(r"<[^<>]+>", str(field))]


def is_body(part, subtype):
    return part.get_content_type() == "text/" + subtype and not part.is_attachment() and not part.get_filename()


def leaves(mail):
    """Yields the parts that are no multipart; an attached mail is one."""
    if mail.is_multipart() and mail.get_content_maintype() == "multipart":
        for part in mail.iter_parts():
            yield from leaves(part)
    else:
        yield mail


def body(mail, subtype):
    return "\n".join(part.get_content() for part in leaves(mail) if is_body(part, subtype))


def attachments(mail):
    found = []
    for part in leaves(mail):
        if is_body(part, "plain") or is_body(part, "html"):
            continue
        kind = part.get_content_type()
        content = None if part.is_multipart() else part.get_payload(decode=True)
        entry = {"name": part.get_filename() or "", "type": kind, "size": None, "hash": None}
        # An attached mail exists only as an object here, not as its bytes.
        if content is not None:
            entry["size"] = len(content)
            if kind.startswith(("text/", "message/")):
                content = bytes(byte for byte in content if byte > 0x20)
            entry["hash"] = hashlib.sha256(content).hexdigest()[:16]
        found.append(entry)
    return found


def read(path):
    with open(path, "rb") as file:
        mail = email.message_from_binary_file(file, policy=email.policy.default)
    fields = {
        "subject": lambda: str(mail["Subject"] or ""),
        "from": lambda: addresses(mail, "From"),
        "to": lambda: addresses(mail, "To"),
        "cc": lambda: addresses(mail, "Cc"),
        "reply_to": lambda: addresses(mail, "Reply-To"),
        "date": lambda: date(mail),
        "message_id": lambda: str(mail["Message-ID"] or ""),
        "in_reply_to": lambda: ids(mail, "In-Reply-To"),
        "references": lambda: ids(mail, "References"),
        "text": lambda: body(mail, "plain"),
        "html": lambda: body(mail, "html"),
        "attachments": lambda: attachments(mail),
    }
    reading = {}
    for name, field in fields.items():
        try:
            reading[name] = field()
        except Exception:  # It raises many kinds on malformed mails.
            reading[name] = None
    return reading


for line in sys.stdin:
    try:
        reading = read(line.rstrip("\n"))
    except Exception as error:
        reading = {"error": repr(error)}
    # It keeps bytes that it cannot decode as lone surrogates, which no other reader accepts.
    line = re.sub("[\ud800-\udfff]", "\ufffd", json.dumps(reading, ensure_ascii=False))
    sys.stdout.buffer.write(line.encode() + b"\n")
    sys.stdout.flush()
