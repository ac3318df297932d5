//! The part of Exchange's schema that the double knows: where elements may appear, in which order, and which attributes they
//! require.
//!
//! The published schemas (messages.xsd, types.xsd) are not at hand here; this table was written from Microsoft's reference pages.

use roxmltree::Node;

pub(super) const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";
pub(super) const MESSAGES: &str = "http://schemas.microsoft.com/exchange/services/2006/messages";
pub(super) const TYPES: &str = "http://schemas.microsoft.com/exchange/services/2006/types";

/// An element: its namespace, its children in order (`?` at most one, `+` at least one, `*` any number, `|` one of several, `m:` or
/// `t:` where a name is in both namespaces), and its
/// attributes (`!` required).
struct Rule {
    name: &'static str,
    namespace: &'static str,
    children: &'static str,
    attributes: &'static str,
}

const fn m(name: &'static str, children: &'static str, attributes: &'static str) -> Rule {
    Rule {
        name,
        namespace: MESSAGES,
        children,
        attributes,
    }
}

const fn t(name: &'static str, children: &'static str, attributes: &'static str) -> Rule {
    Rule {
        name,
        namespace: TYPES,
        children,
        attributes,
    }
}

/// Elements that hold text, and elements whose content the double does not check.
const TEXT: &str = "#text";
const ANY: &str = "#any";

const RULES: &[Rule] = &[
    m("GetFolder", "FolderShape m:FolderIds", ""),
    m(
        "FindFolder",
        "FolderShape IndexedPageFolderView|FractionalPageFolderView? Restriction? ParentFolderIds",
        "Traversal!",
    ),
    m("CreateFolder", "ParentFolderId Folders", ""),
    m("ConvertId", "SourceIds", "DestinationFormat!"),
    m("SourceIds", "AlternateId+", ""),
    t("AlternateId", "", "Format! Id! Mailbox! IsArchive"),
    m("FolderShape", "BaseShape AdditionalProperties?", ""),
    m("FolderIds", "FolderId|DistinguishedFolderId+", ""),
    m("ParentFolderIds", "FolderId|DistinguishedFolderId+", ""),
    m("ParentFolderId", "FolderId|DistinguishedFolderId", ""),
    m("ToFolderId", "FolderId|DistinguishedFolderId", ""),
    m("SavedItemFolderId", "FolderId|DistinguishedFolderId", ""),
    m("SyncFolderId", "FolderId|DistinguishedFolderId", ""),
    m(
        "IndexedPageFolderView",
        "",
        "MaxEntriesReturned Offset! BasePoint!",
    ),
    m("Folders", "Folder+", ""),
    m("Restriction", "IsEqualTo|And|Or|Contains|Exists", ""),
    m(
        "SyncFolderItems",
        "ItemShape SyncFolderId SyncState? Ignore? MaxChangesReturned SyncScope?",
        "",
    ),
    m(
        "ItemShape",
        "BaseShape IncludeMimeContent? BodyType? FilterHtmlContent? ConvertHtmlCodePageToUTF8? AdditionalProperties?",
        "",
    ),
    m("SyncState", TEXT, ""),
    m("Ignore", "ItemId*", ""),
    m("MaxChangesReturned", TEXT, ""),
    m("SyncScope", TEXT, ""),
    m(
        "FindItem",
        "ItemShape IndexedPageItemView? Restriction? SortOrder? ParentFolderIds QueryString?",
        "Traversal!",
    ),
    m(
        "IndexedPageItemView",
        "",
        "MaxEntriesReturned Offset! BasePoint!",
    ),
    m("SortOrder", "FieldOrder+", ""),
    m("GetItem", "ItemShape ItemIds", ""),
    m("ItemIds", "ItemId+", ""),
    m(
        "CreateItem",
        "SavedItemFolderId? Items",
        "MessageDisposition SendMeetingInvitations",
    ),
    m("Items", "Message+", ""),
    m(
        "UpdateItem",
        "SavedItemFolderId? ItemChanges",
        "ConflictResolution! MessageDisposition SendMeetingInvitationsOrCancellations SuppressReadReceipts",
    ),
    m("ItemChanges", "ItemChange+", ""),
    m("MoveItem", "ToFolderId ItemIds ReturnNewItemIds?", ""),
    m("ReturnNewItemIds", TEXT, ""),
    m(
        "DeleteItem",
        "ItemIds",
        "DeleteType! SendMeetingCancellations AffectedTaskOccurrences SuppressReadReceipts",
    ),
    m("Subscribe", "StreamingSubscriptionRequest", ""),
    m(
        "StreamingSubscriptionRequest",
        "t:FolderIds? EventTypes",
        "SubscribeToAllFolders",
    ),
    m("Unsubscribe", "m:SubscriptionId", ""),
    m("SubscriptionId", TEXT, ""),
    m(
        "GetStreamingEvents",
        "SubscriptionIds ConnectionTimeout",
        "",
    ),
    m("SubscriptionIds", "t:SubscriptionId+", ""),
    m("ConnectionTimeout", TEXT, ""),
    t("BaseShape", TEXT, ""),
    t("IncludeMimeContent", TEXT, ""),
    t("BodyType", TEXT, ""),
    t("FilterHtmlContent", TEXT, ""),
    t("ConvertHtmlCodePageToUTF8", TEXT, ""),
    t(
        "AdditionalProperties",
        "FieldURI|IndexedFieldURI|ExtendedFieldURI+",
        "",
    ),
    t("FieldURI", "", "FieldURI!"),
    t("IndexedFieldURI", "", "FieldURI! FieldIndex!"),
    t(
        "ExtendedFieldURI",
        "",
        "DistinguishedPropertySetId PropertySetId PropertyTag PropertyName PropertyId PropertyType!",
    ),
    t("FolderId", "", "Id! ChangeKey"),
    t("DistinguishedFolderId", "Mailbox?", "Id! ChangeKey"),
    t(
        "Mailbox",
        "Name? EmailAddress? RoutingType? MailboxType?",
        "",
    ),
    t("Name", TEXT, ""),
    t("EmailAddress", TEXT, ""),
    t("RoutingType", TEXT, ""),
    t("MailboxType", TEXT, ""),
    t("ItemId", "", "Id! ChangeKey"),
    t(
        "IsEqualTo",
        "FieldURI|IndexedFieldURI|ExtendedFieldURI FieldURIOrConstant",
        "",
    ),
    t("ExtendedProperty", "ExtendedFieldURI Value|Values", ""),
    t("Value", TEXT, ""),
    t("FieldURIOrConstant", "Constant|FieldURI", ""),
    t("Constant", "", "Value!"),
    t("And", ANY, ""),
    t("Or", ANY, ""),
    t("Contains", ANY, "ContainmentMode ContainmentComparison"),
    t("Exists", ANY, ""),
    t(
        "FieldOrder",
        "FieldURI|IndexedFieldURI|ExtendedFieldURI",
        "Order!",
    ),
    t("Folder", "FolderClass? DisplayName", ""),
    t("FolderClass", TEXT, ""),
    t("DisplayName", TEXT, ""),
    t(
        "Message",
        "MimeContent? ItemId? ParentFolderId? ItemClass? Subject? Sensitivity? Body? Attachments? DateTimeReceived? Size? \
         Categories? Importance? InReplyTo? IsSubmitted? IsDraft? IsFromMe? IsResend? IsUnmodified? InternetMessageHeaders? \
         DateTimeSent? DateTimeCreated? ResponseObjects? ReminderDueBy? ReminderIsSet? ReminderMinutesBeforeStart? DisplayCc? \
         DisplayTo? HasAttachments? ExtendedProperty* Culture? EffectiveRights? LastModifiedName? LastModifiedTime? \
         Sender? ToRecipients? CcRecipients? BccRecipients? IsReadReceiptRequested? IsDeliveryReceiptRequested? \
         ConversationIndex? ConversationTopic? From? InternetMessageId? IsRead? IsResponseRequested? References? ReplyTo?",
        "",
    ),
    // The properties of every item, those that a client sets here.
    t(
        "Item",
        "MimeContent? ItemId? ParentFolderId? ItemClass? Subject? Sensitivity? Body? Categories? Importance? ExtendedProperty*",
        "",
    ),
    t("MimeContent", TEXT, "CharacterSet"),
    t("InReplyTo", TEXT, ""),
    t("DateTimeSent", TEXT, ""),
    t("ReminderDueBy", TEXT, ""),
    t("ReminderIsSet", TEXT, ""),
    t("ReminderMinutesBeforeStart", TEXT, ""),
    t("Culture", TEXT, ""),
    t("IsReadReceiptRequested", TEXT, ""),
    t("IsDeliveryReceiptRequested", TEXT, ""),
    t("InternetMessageId", TEXT, ""),
    t("IsResponseRequested", TEXT, ""),
    t("References", TEXT, ""),
    t("Sender", "Mailbox", ""),
    t("ItemClass", TEXT, ""),
    t("Subject", TEXT, ""),
    t("Sensitivity", TEXT, ""),
    t("Importance", TEXT, ""),
    t("Body", TEXT, "BodyType! IsTruncated"),
    t("DateTimeReceived", TEXT, ""),
    t("ToRecipients", "Mailbox+", ""),
    t("CcRecipients", "Mailbox+", ""),
    t("BccRecipients", "Mailbox+", ""),
    t("ReplyTo", "Mailbox+", ""),
    t("From", "Mailbox", ""),
    t("IsRead", TEXT, ""),
    t("ItemChange", "ItemId Updates", ""),
    t(
        "Updates",
        "SetItemField|DeleteItemField|AppendToItemField+",
        "",
    ),
    t(
        "SetItemField",
        "FieldURI|IndexedFieldURI|ExtendedFieldURI Message|Item",
        "",
    ),
    t(
        "DeleteItemField",
        "FieldURI|IndexedFieldURI|ExtendedFieldURI",
        "",
    ),
    t("ExtendedProperty", "ExtendedFieldURI Value|Values", ""),
    t("Value", TEXT, ""),
    t("Values", "Value*", ""),
    t("FolderIds", "FolderId|DistinguishedFolderId+", ""),
    t("EventTypes", "EventType+", ""),
    t("EventType", TEXT, ""),
    t("SubscriptionId", TEXT, ""),
];

/// Checks an operation and everything in it. The error is what Exchange would report.
pub(super) fn check(node: Node<'_, '_>) -> Result<(), String> {
    let name = node.tag_name().name();
    let namespace = node.tag_name().namespace().unwrap_or_default();
    let rule = RULES
        .iter()
        .find(|rule| rule.name == name && rule.namespace == namespace)
        .ok_or_else(|| {
            format!("the element '{name}' in namespace '{namespace}' is not expected")
        })?;
    let wanted: Vec<&str> = rule.attributes.split_whitespace().collect();
    for attribute in node.attributes().filter(|it| it.namespace().is_none()) {
        if !wanted
            .iter()
            .any(|it| it.trim_end_matches('!') == attribute.name())
        {
            return Err(format!(
                "the '{}' attribute of '{name}' is not declared",
                attribute.name()
            ));
        }
    }
    for attribute in wanted.iter().filter_map(|it| it.strip_suffix('!')) {
        if node.attribute(attribute).is_none() {
            return Err(format!(
                "the required attribute '{attribute}' of '{name}' is missing"
            ));
        }
    }
    let children: Vec<_> = node.children().filter(Node::is_element).collect();
    match rule.children {
        ANY => return Ok(()),
        TEXT if children.is_empty() => return Ok(()),
        TEXT => {
            return Err(format!(
                "the element '{name}' cannot contain child elements"
            ));
        }
        _ => {}
    }
    let text = node.children().filter(Node::is_text);
    if text
        .filter_map(|it| it.text())
        .any(|it| !it.trim().is_empty())
    {
        return Err(format!("the element '{name}' cannot contain text"));
    }
    let mut rest = children.iter().peekable();
    for token in rule.children.split_whitespace() {
        let (names, most) = match token.char_indices().last() {
            Some((at, quantity @ ('?' | '+' | '*'))) => (&token[..at], quantity),
            _ => (token, '1'),
        };
        let mut found = 0;
        while (found == 0 || matches!(most, '+' | '*'))
            && rest
                .next_if(|child| names.split('|').any(|name| is_named(**child, name)))
                .is_some()
        {
            found += 1;
        }
        if found == 0 && matches!(most, '1' | '+') {
            return Err(format!(
                "the element '{name}' has incomplete or misordered content: '{names}' is expected"
            ));
        }
    }
    if let Some(child) = rest.next() {
        return Err(format!(
            "the element '{name}' has invalid child element '{}'",
            child.tag_name().name()
        ));
    }
    children.into_iter().try_for_each(check)
}

/// Returns whether an element has a name from the table.
fn is_named(node: Node<'_, '_>, name: &str) -> bool {
    let namespace = node.tag_name().namespace();
    match name.split_once(':') {
        Some(("m", name)) => namespace == Some(MESSAGES) && node.tag_name().name() == name,
        Some((_, name)) => namespace == Some(TYPES) && node.tag_name().name() == name,
        None => node.tag_name().name() == name,
    }
}
