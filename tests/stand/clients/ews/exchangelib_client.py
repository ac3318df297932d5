"""exchangelib against the EWS double: what a client of others expects of Exchange must hold there.

Environment: EWS_URL, EWS_USER, EWS_PASSWORD, EWS_OTHER (a mailbox that the user may not act for), EWS_SHARED (one that
the user may impersonate), EWS_TOKEN (an app-only access token), REQUESTS_CA_BUNDLE.
"""

import os
import threading

from exchangelib import (
    BASIC,
    DELEGATE,
    IMPERSONATION,
    OAUTH2,
    Account,
    Build,
    Configuration,
    Credentials,
    FailFast,
    Folder,
    Message,
    OAuth2AuthorizationCodeCredentials,
    Version,
)
from exchangelib.errors import (
    ErrorImpersonateUserDenied,
    ErrorInvalidSyncStateData,
    ErrorIrresolvableConflict,
    ErrorItemNotFound,
    UnauthorizedError,
)
from exchangelib.items import NEVER_OVERWRITE
from exchangelib.properties import CreatedEvent
from oauthlib.oauth2 import OAuth2Token

URL = os.environ["EWS_URL"]
USER = os.environ["EWS_USER"]
PASSWORD = os.environ["EWS_PASSWORD"]
VERSION = Version(build=Build(15, 1, 2507, 6))


def account(address, password=PASSWORD, access_type=DELEGATE):
    configuration = Configuration(
        service_endpoint=URL,
        credentials=Credentials(USER, password),
        auth_type=BASIC,
        version=VERSION,
        retry_policy=FailFast(),
        # A stream keeps one of them busy.
        max_connections=2,
    )
    return Account(address, config=configuration, autodiscover=False, access_type=access_type)


def mail(subject):
    return (
        f"From: Dana <dana@acme.example>\r\nTo: {USER}\r\nSubject: {subject}\r\n"
        f"Message-ID: <{subject.replace(' ', '.')}@acme.example>\r\n\r\nBody of {subject}, ü.\r\n"
    ).encode()


def create(owner, subject):
    Message(account=owner, folder=owner.inbox, mime_content=mail(subject)).save()


def refused(error, call):
    try:
        call()
    except error:
        return
    raise AssertionError(f"{error.__name__} was expected")


own = account(USER)
inbox = own.inbox
assert list(inbox.sync_items()) == [], "a new mailbox is empty"

# CreateItem with MimeContent, FindItem, GetItem with MIME.
create(own, "first mail")
create(own, "second mail")
found = sorted(inbox.all(), key=lambda item: item.subject)
assert [item.subject for item in found] == ["first mail", "second mail"], found
first, second = found
assert first.mime_content == mail("first mail"), first.mime_content
assert first.message_id == "<first.mail@acme.example>", first.message_id
assert first.sender is None and first.author.email_address == "dana@acme.example", first.author
assert not first.is_read
inbox.refresh()
assert (inbox.total_count, inbox.unread_count) == (2, 2)

# SyncFolderItems: creations, then a read flag, then nothing.
assert [change for change, _ in inbox.sync_items()] == ["create", "create"]
first.is_read = True
first.save(update_fields=["is_read"])
changes = list(inbox.sync_items())
assert [change for change, _ in changes] == ["read_flag_change"], changes
assert list(inbox.sync_items()) == []
state = inbox.item_sync_state
inbox.item_sync_state = "bm90IGEgc3RhdGU="
refused(ErrorInvalidSyncStateData, lambda: list(inbox.sync_items()))
inbox.item_sync_state = state

# UpdateItem: an old change key conflicts.
old = [item for item in inbox.all() if item.subject == "second mail"][0]
second.is_read = True
second.save(update_fields=["is_read"])
old.is_read = False
refused(
    ErrorIrresolvableConflict,
    lambda: old.save(update_fields=["is_read"], conflict_resolution=NEVER_OVERWRITE),
)

# CreateFolder, MoveItem, DeleteItem.
processed = Folder(parent=inbox, name="Processed")
processed.save()
before = first.id
first.move(processed)
assert first.id != before
assert [item.subject for item in processed.all()] == ["first mail"]
refused(ErrorItemNotFound, lambda: own.inbox.get(id=before, changekey=None))
second.soft_delete()
kinds = sorted(change for change, _ in inbox.sync_items())
assert kinds == ["delete", "delete"], kinds

# Streaming notifications.
with inbox.streaming_subscription() as subscription:
    timer = threading.Timer(1, create, (own, "by notification"))
    timer.start()
    events = [
        event
        for notification in inbox.get_streaming_events(
            subscription, connection_timeout=1, max_notifications_returned=1
        )
        for event in notification.events
    ]
    timer.join()
assert any(isinstance(event, CreatedEvent) for event in events), events

# Passwords and impersonation.
refused(UnauthorizedError, lambda: account(USER, password="wrong").inbox.refresh())
refused(
    ErrorImpersonateUserDenied,
    lambda: account(os.environ["EWS_OTHER"], access_type=IMPERSONATION).inbox.refresh(),
)
shared = account(os.environ["EWS_SHARED"], access_type=IMPERSONATION)
create(shared, "for another")
assert [item.subject for item in shared.inbox.all()] == ["for another"]

# An application's token.
token = OAuth2Token({"access_token": os.environ["EWS_TOKEN"], "token_type": "Bearer", "expires_in": 3600})
configuration = Configuration(
    service_endpoint=URL,
    credentials=OAuth2AuthorizationCodeCredentials(access_token=token),
    auth_type=OAUTH2,
    version=VERSION,
    retry_policy=FailFast(),
)
application = Account(
    os.environ["EWS_SHARED"], config=configuration, autodiscover=False, access_type=IMPERSONATION
)
assert [item.subject for item in application.inbox.all()] == ["for another"]
print("exchangelib: all held")
