"""Uses the Graph double by Microsoft's own SDK for Python (msgraph-sdk), and says what differs from the real service.

Environment: GRAPH_URL (without the version), GRAPH_TOKEN, GRAPH_MAILBOX, SSL_CERT_FILE.
The inbox holds 23 mails named "mail 0" to "mail 22", delivered in this order.
"""

import asyncio
import os
import time

from azure.core.credentials import AccessToken
from kiota_abstractions.base_request_configuration import RequestConfiguration
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.models.mail_folder import MailFolder
from msgraph.generated.models.message import Message
from msgraph.generated.models.o_data_errors.o_data_error import ODataError
from msgraph.generated.users.item.mail_folders.item.messages.delta.delta_request_builder import DeltaRequestBuilder
from msgraph.generated.users.item.mail_folders.item.messages.messages_request_builder import MessagesRequestBuilder
from msgraph.generated.users.item.messages.item.move.move_post_request_body import MovePostRequestBody
from msgraph_core.tasks.page_iterator import PageIterator
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider

URL = os.environ["GRAPH_URL"] + "v1.0"


class Credential:
    def get_token(self, *scopes, **options):
        return AccessToken(os.environ["GRAPH_TOKEN"], int(time.time()) + 3600)


def equal(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def immutable(parameters=None):
    configuration = RequestConfiguration(query_parameters=parameters)
    configuration.headers.add("Prefer", 'IdType="ImmutableId"')
    return configuration


def client():
    provider = AzureIdentityAuthenticationProvider(
        Credential(), scopes=["https://graph.microsoft.com/.default"], allowed_hosts=["localhost"]
    )
    adapter = GraphRequestAdapter(provider)
    adapter.base_url = URL
    return GraphServiceClient(request_adapter=adapter)


async def listed(graph, mailbox):
    """Pages by the SDK's iterator, then the MIME of one."""
    parameters = MessagesRequestBuilder.MessagesRequestBuilderGetQueryParameters(
        top=10, select=["subject", "isRead", "from", "receivedDateTime"], orderby=["receivedDateTime desc"]
    )
    inbox = mailbox.mail_folders.by_mail_folder_id("inbox")
    first = await inbox.messages.get(request_configuration=immutable(parameters))
    subjects = []
    iterator = PageIterator(first, graph.request_adapter)
    await iterator.iterate(lambda mail: subjects.append(mail.subject) or True)
    equal(subjects, [f"mail {n}" for n in reversed(range(23))])
    newest = first.value[0]
    equal(newest.from_.email_address.address, "ann@acme.example")
    mime = await mailbox.messages.by_message_id(newest.id).content.get()
    assert b"Subject: mail 22" in mime, mime
    return newest


async def followed(mailbox):
    """Delta: all pages, then what changes."""
    delta = mailbox.mail_folders.by_mail_folder_id("inbox").messages.delta
    parameters = DeltaRequestBuilder.DeltaRequestBuilderGetQueryParameters(select=["subject"])
    page = await delta.get(request_configuration=immutable(parameters))
    subjects = [mail.subject for mail in page.value]
    while page.odata_next_link:
        page = await delta.with_url(page.odata_next_link).get(request_configuration=immutable())
        subjects += [mail.subject for mail in page.value]
    equal(sorted(subjects), sorted(f"mail {n}" for n in range(23)))
    assert page.odata_delta_link
    return delta.with_url(page.odata_delta_link)


async def main():
    graph = client()
    mailbox = graph.users.by_user_id(os.environ["GRAPH_MAILBOX"])
    newest = await listed(graph, mailbox)
    rest = await followed(mailbox)

    mail = mailbox.messages.by_message_id(newest.id)
    changed = await mail.patch(Message(is_read=True), request_configuration=immutable())
    equal((changed.is_read, changed.id), (True, newest.id))
    done = await mailbox.mail_folders.post(MailFolder(display_name="Done"))
    moved = await mail.move.post(MovePostRequestBody(destination_id=done.id), request_configuration=immutable())
    equal((moved.id, moved.parent_folder_id), (newest.id, done.id))

    page = await rest.get(request_configuration=immutable())
    equal([(mail.id, "@removed" in mail.additional_data) for mail in page.value], [(newest.id, True)])
    await mail.delete()

    for call, status, code in [
        (mailbox.messages.by_message_id("AAMkNone=").get(), 404, "ErrorItemNotFound"),
        (graph.users.by_user_id("nobody@acme.example").mail_folders.get(), 404, "ErrorInvalidUser"),
        (mailbox.mail_folders.post(MailFolder(display_name="Done")), 409, "ErrorFolderExists"),
    ]:
        try:
            await call
        except ODataError as error:
            equal((error.response_status_code, error.error.code), (status, code))
        else:
            raise AssertionError(f"{code} was expected")


asyncio.run(main())
print("the double serves msgraph-sdk")
