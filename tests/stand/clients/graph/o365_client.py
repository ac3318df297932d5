"""Uses the Graph double by the O365 package as a program of somebody else's does, and says what differs from the real service.

Environment: GRAPH_URL (without the version), GRAPH_TOKEN, GRAPH_MAILBOX, REQUESTS_CA_BUNDLE.
The inbox holds 23 mails named "mail 0" to "mail 22", delivered in this order.
"""

import os

from O365 import Account, MSGraphProtocol
from requests.exceptions import HTTPError


class Protocol(MSGraphProtocol):
    _protocol_url = os.environ["GRAPH_URL"]


def account(immutable):
    headers = {"Prefer": 'IdType="ImmutableId"'} if immutable else {}
    made = Account(
        ("application", "secret"),
        auth_flow_type="credentials",
        tenant_id="acme",
        protocol=Protocol(default_resource=os.environ["GRAPH_MAILBOX"]),
        default_headers=headers,
        request_retries=0,
    )
    made.con.session = made.con.get_session(load_token=False)
    made.con.update_session_auth_header(os.environ["GRAPH_TOKEN"])
    return made


def equal(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def read(mailbox):
    """Pages, order, MIME."""
    mails = list(mailbox.inbox_folder().get_messages(limit=50, batch=10))
    equal([mail.subject for mail in mails], [f"mail {n}" for n in reversed(range(23))])
    newest = mails[0]
    equal(newest.sender.address, "ann@acme.example")
    equal([to.address for to in newest.to], ["support@acme.example"])
    assert b"Subject: mail 22" in newest.get_mime_content()
    return mails


def change(mailbox, mails, immutable):
    """Marks, categories, moves, deletions."""
    mail = mails[0]
    equal(mail.is_read, False)
    assert mail.mark_as_read()
    mail.categories = ["Red"]
    assert mail.save_message()
    before = mail.object_id
    folder = mailbox.get_folder(folder_name="Done") or mailbox.create_child_folder("Done")
    assert mail.move(folder)
    after = next(iter(folder.get_messages(limit=1)))
    equal((after.is_read, after.categories), (True, ["Red"]))
    equal(after.object_id == before, immutable)
    assert mails[1].delete()
    binned = [mail.subject for mail in mailbox.deleted_folder().get_messages(limit=10)]
    assert mails[1].subject in binned, binned
    unread = mailbox.inbox_folder().get_messages(limit=50, query="isRead eq false")
    assert mails[0].subject not in [mail.subject for mail in unread]
    equal(mailbox.inbox_folder().refresh_folder(), True)


def send(mailbox):
    mail = mailbox.new_message()
    mail.to.add("jo@outside.example")
    mail.subject = "sent by O365"
    mail.body = "hello"
    assert mail.send()
    sent = [mail.subject for mail in mailbox.sent_folder().get_messages(limit=10)]
    assert "sent by O365" in sent, sent


def refuse(mailbox):
    """What the real service refuses."""
    base = f"{os.environ['GRAPH_URL']}v1.0/users/{os.environ['GRAPH_MAILBOX']}"
    for path, status, code in [
        ("/messages/AAMkNone=", 404, "ErrorItemNotFound"),
        ("/mailFolders/AAMkNone=", 404, "ErrorItemNotFound"),
        ("/messages?$select=colour", 400, "RequestBroker--ParseUri"),
        ("/mailFolders?$filter=size gt 3", 400, "ErrorInvalidUrlQueryFilter"),
        ("/mailFolders/inbox/messages/delta?$deltatoken=none", 410, "syncStateNotFound"),
        ("/nothing", 400, "BadRequest"),
    ]:
        try:
            mailbox.con.get(base + path)
        except HTTPError as error:
            equal(error.response.status_code, status)
            equal(error.response.json()["error"]["code"], code)
        else:
            raise AssertionError(f"{path} was served")


for immutable in (True, False):
    mailbox = account(immutable).mailbox()
    if immutable:
        mails = read(mailbox)
        refuse(mailbox)
        send(mailbox)
    else:
        mails = list(mailbox.inbox_folder().get_messages(limit=50, batch=10))
    change(mailbox, mails, immutable)
print("the double serves O365")
