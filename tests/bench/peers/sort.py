"""The bench's sorting by ten patterns with imap_tools: fetch, decode, sort, record the outcome, move to Processed.

One mail at a time, as its documentation begins; with --bulk, many with one command.
"""

import os
import re
import ssl
import sys

from imap_tools import MailBox

CHUNK = 128 if "--bulk" in sys.argv else 1

NAGIOS = re.compile(r"^\*\* (PROBLEM|RECOVERY) Service Alert: ([^/]+)/(.+) is (\w+) \*\*$")
BACKUP = re.compile(r"^\[(Success|Warning|Failed)\] (.+) \((\d+) machines?\)$")
ZABBIX = re.compile(r"^(Problem|Resolved): (.+) on ([\w.-]+)$")
AWAY = re.compile(r"\b(out of office|automatic reply|abwesend)\b", re.I)
UNSUBSCRIBE = re.compile(r"\S")
ANSWER = re.compile(r"^(re|aw|sv): ", re.I)
VOLUME = re.compile(r"Volume (\d+) on (\S+) is (\d+)% full")
CERTIFICATE = re.compile(r"Certificate for (\S+) expires in (\d+) days")
URGENT = re.compile(r"\b(urgent|asap|cannot work|server down)\b", re.I)
INVOICE = re.compile(r"\binvoice (no\.?|number) ?(\d{4,})", re.I)

tickets = set()


def header(mail, name):
    return " ".join(mail.headers.get(name, ()))


def state(firing):
    return "firing" if firing else "resolved"


def place(mail):
    subject = mail.subject
    if m := NAGIOS.search(subject):
        return f"alert nagios/{m[2]}/{m[3]} {state(m[1] == 'PROBLEM')}"
    if m := BACKUP.search(subject):
        return f"alert backup/{m[2]} {state(m[1] != 'Success')}"
    if m := ZABBIX.search(subject):
        return f"alert zabbix/{m[3]}/{m[2]} {state(m[1] == 'Problem')}"
    if AWAY.search(subject):
        return "ignored out of office"
    if UNSUBSCRIBE.search(header(mail, "list-unsubscribe")):
        return "ignored newsletter"
    if header(mail, "in-reply-to").strip().strip("<>") in tickets and ANSWER.search(subject):
        return "note"
    text = mail.text
    if m := VOLUME.search(text):
        return f"alert disk/{m[2]}/{m[1]} {state(int(m[3]) >= 80)}"
    if CERTIFICATE.search(text):
        return "ticket Certificates"
    if URGENT.search(text):
        return "ticket Urgent"
    if INVOICE.search(text):
        return "ticket Billing"
    return "ticket Service desk"


def main():
    context = ssl.create_default_context(cafile=os.environ["BENCH_CA"])
    host, port = "localhost", int(os.environ["BENCH_PORT"])
    with (
        open(os.environ["BENCH_OUT"], "w", encoding="utf-8") as out,
        MailBox(host, port, ssl_context=context).login(os.environ["BENCH_USER"], os.environ["BENCH_PASSWORD"]) as box,
    ):
        if not box.folder.exists("Processed"):
            box.folder.create("Processed")
        sorted_uids = []
        for mail in box.fetch(mark_seen=False, bulk=CHUNK > 1 and CHUNK):
            message_id = header(mail, "message-id").strip().strip("<>")
            found = place(mail)
            if found.startswith("ticket"):
                tickets.add(message_id)
            out.write(f"{message_id}\t{found}\n")
            sorted_uids.append(mail.uid)
            if len(sorted_uids) == CHUNK:
                box.move(sorted_uids, "Processed")
                sorted_uids.clear()
        if sorted_uids:
            box.move(sorted_uids, "Processed")


main()
