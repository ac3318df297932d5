//! The routes: the response to a request on a mailbox. Requests that the real service refuses are refused here too.

use serde_json::{Value, json};

use super::http::{Answer, Asked};
use super::mailbox::{Folder, Mailbox};
use super::places::{Entry, Place};
use super::tokens::{Caller, Permission};
use super::{NO_MAILBOX, State, message, send, upload};

/// The number of mails on a page unless the client asks for a different one.
const PAGE_MAILS: usize = 10;
const PAGE_MAILS_MAX: usize = 1000;
/// The properties that a client may change here.
const CHANGEABLE: [&str; 4] = ["isRead", "categories", "flag", "importance"];

/// Returns the response to a request on one mailbox.
pub(super) fn answer(state: &mut State, asked: &Asked, caller: &Caller, address: &str) -> Answer {
    let is_own = caller.user.as_deref() == Some(address);
    let at = if asked.segments.first().is_some_and(|it| it == "me") {
        1
    } else {
        2
    };
    let path: Vec<&str> = asked.segments.iter().skip(at).map(String::as_str).collect();
    let permission = match path.as_slice() {
        ["sendMail"] | ["messages", _, "send"] => Permission::Send,
        _ => Permission::ReadWrite,
    };
    let covers = |covered: &std::collections::HashSet<String>| covered.contains(address);
    let is_open = match &caller.user {
        Some(user) => is_own || state.shared_with.get(user).is_some_and(covers),
        None => state.covered.get(&caller.client_id).is_none_or(covers),
    };
    if !is_open || !caller.may(permission, is_own) {
        let text = "Access is denied. Check credentials and try again.";
        return Answer::error(403, "ErrorAccessDenied", text);
    }
    if address == NO_MAILBOX {
        let text = format!("The requested user '{address}' is invalid.");
        return Answer::error(404, "ErrorInvalidUser", &text);
    }
    let port = state.port;
    let base = match at {
        1 => format!("https://localhost:{port}/v1.0/me"),
        _ => format!(
            "https://localhost:{port}/v1.0/users('{}')",
            address.replace('@', "%40")
        ),
    };
    match (asked.method.as_str(), path.as_slice()) {
        ("GET", []) => Answer::json(
            200,
            &json!({
                "id": address, "displayName": address, "mail": address, "userPrincipalName": address,
            }),
        ),
        ("GET", ["mailFolders"]) => folders(state.mailbox(address), asked, None),
        ("POST", ["mailFolders"]) => make_folder(state.mailbox(address), asked, None),
        (method, ["mailFolders", folder, rest @ ..]) => {
            let mailbox = state.mailbox(address);
            let Some(folder) = mailbox.folder(folder).cloned() else {
                return not_found();
            };
            match (method, rest) {
                ("GET", []) => {
                    with_id_kind(asked, Answer::json(200, &folder_json(mailbox, &folder)))
                }
                ("GET", ["childFolders"]) => folders(mailbox, asked, Some(&folder.id)),
                ("POST", ["childFolders"]) => make_folder(mailbox, asked, Some(&folder.id)),
                ("GET", ["messages"]) => messages(mailbox, asked, Some(&folder), &base),
                ("GET", ["messages", "delta"]) => delta(state, asked, address, &folder.id, &base),
                (_, ["messages", id, rest @ ..]) => one(mailbox, asked, id, rest),
                _ => no_segment(asked),
            }
        }
        ("POST", ["messages"]) => send::draft(state, asked, address),
        ("POST", ["messages", id, "send"]) => send::send_draft(state, asked, address, id),
        ("POST", ["messages", id, "attachments"]) => upload::attach(state, asked, address, id),
        ("POST", ["messages", id, "attachments", "createUploadSession"]) => {
            upload::open(state, asked, address, id)
        }
        ("GET", ["messages"]) => messages(state.mailbox(address), asked, None, &base),
        (_, ["messages", id, rest @ ..]) => one(state.mailbox(address), asked, id, rest),
        ("POST", ["sendMail"]) => send::send(state, asked, address),
        _ => no_segment(asked),
    }
}

/// Returns the response to a request for an unknown path.
pub(super) fn no_segment(asked: &Asked) -> Answer {
    let last = asked.segments.last().map_or("", String::as_str);
    let text = format!("Resource not found for the segment '{last}'.");
    Answer::error(400, "BadRequest", &text)
}

pub(super) fn not_found() -> Answer {
    let text = "The specified object was not found in the store.";
    Answer::error(404, "ErrorItemNotFound", text)
}

fn bad_query(text: &str) -> Answer {
    Answer::error(400, "RequestBroker--ParseUri", text)
}

/// Refuses query parameters that the path does not support.
fn known_parameters(asked: &Asked, known: &[&str]) -> Result<(), Answer> {
    let unknown = asked
        .query
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()));
    match unknown {
        Some((name, _)) => Err(bad_query(&format!(
            "The query parameter '{name}' is not supported here."
        ))),
        None => Ok(()),
    }
}

/// Reads a filter on the property that holds a header, as name and value.
fn by_header(filter: &str) -> Option<(&str, &str)> {
    let rest = filter.strip_prefix(
        "singleValueExtendedProperties/Any(ep: ep/id eq 'String {00020386-0000-0000-C000-000000000046} Name ",
    )?;
    let (name, rest) = rest.split_once("' and ep/value eq '")?;
    Some((name, rest.strip_suffix("')")?))
}

fn with_id_kind(asked: &Asked, mut answer: Answer) -> Answer {
    if asked.wants_immutable_ids() {
        let applied = "IdType=\"ImmutableId\"".to_owned();
        answer.headers.push(("preference-applied", applied));
    }
    answer
}

fn selected(asked: &Asked) -> Result<Option<Vec<String>>, Answer> {
    let Some(text) = asked.query("$select") else {
        return Ok(None);
    };
    let select: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    match message::unknown(&select) {
        Some(name) => Err(bad_query(&format!(
            "Could not find a property named '{name}' on type 'microsoft.graph.message'."
        ))),
        None => Ok(Some(select)),
    }
}

pub(super) fn body(asked: &Asked) -> Result<Value, Answer> {
    if !asked.content_type.starts_with("application/json") {
        let text = "The content type of the request must be application/json.";
        return Err(Answer::error(415, "UnsupportedMediaType", text));
    }
    serde_json::from_slice(&asked.body).map_err(|_| {
        let text = "Unable to read JSON request payload.";
        Answer::error(400, "BadRequest", text)
    })
}

fn folder_json(mailbox: &Mailbox, folder: &Folder) -> Value {
    let mails = mailbox.listed(&folder.id);
    let unread = mails.iter().filter(|mail| !mail.is_read).count();
    json!({
        "id": folder.id,
        "displayName": folder.name,
        "parentFolderId": folder.parent.as_deref().unwrap_or("AAMkRoot="),
        "childFolderCount": mailbox.children(Some(&folder.id)).len(),
        "unreadItemCount": unread,
        "totalItemCount": mails.len(),
        "sizeInBytes": mails.iter().map(|mail| mail.mime.len()).sum::<usize>(),
        "isHidden": false,
    })
}

fn folders(mailbox: &Mailbox, asked: &Asked, parent: Option<&str>) -> Answer {
    let known = [
        "$filter",
        "$select",
        "$top",
        "$count",
        "includeHiddenFolders",
    ];
    if let Err(answer) = known_parameters(asked, &known) {
        return answer;
    }
    let mut found = mailbox.children(parent);
    if let Some(filter) = asked.query("$filter") {
        let name = filter
            .strip_prefix("displayName eq '")
            .and_then(|rest| rest.strip_suffix('\''));
        let Some(name) = name else {
            let text = "The query filter contains one or more invalid nodes.";
            return Answer::error(400, "ErrorInvalidUrlQueryFilter", text);
        };
        let name = name.replace("''", "'").to_lowercase();
        found.retain(|folder| folder.name.to_lowercase() == name);
    }
    let found: Vec<Value> = found
        .into_iter()
        .map(|folder| folder_json(mailbox, folder))
        .collect();
    Answer::json(200, &json!({ "value": found }))
}

fn make_folder(mailbox: &mut Mailbox, asked: &Asked, parent: Option<&str>) -> Answer {
    let body = match body(asked) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let Some(name) = body["displayName"].as_str().filter(|name| !name.is_empty()) else {
        return Answer::error(400, "ErrorInvalidRequest", "displayName is required.");
    };
    let is_there = |folder: &&Folder| folder.name.eq_ignore_ascii_case(name);
    if mailbox.children(parent).iter().any(is_there) {
        let text = "A folder with the specified name already exists.";
        return Answer::error(409, "ErrorFolderExists", text);
    }
    let folder = mailbox.make_folder(name, parent);
    Answer::json(201, &folder_json(mailbox, &folder))
}

fn messages(mailbox: &Mailbox, asked: &Asked, folder: Option<&Folder>, base: &str) -> Answer {
    let known = ["$select", "$top", "$skip", "$orderby", "$filter", "$count"];
    let select = match known_parameters(asked, &known).and_then(|()| selected(asked)) {
        Ok(select) => select,
        Err(answer) => return answer,
    };
    let number = |name: &str, default| {
        asked
            .query(name)
            .map_or(Some(default), |it| it.parse().ok())
    };
    let (Some(top @ 1..=PAGE_MAILS_MAX), Some(skip)) =
        (number("$top", PAGE_MAILS), number("$skip", 0))
    else {
        return bad_query("Invalid value for $top or $skip.");
    };
    let mut mails: Vec<_> = match folder {
        Some(folder) => mailbox.listed(&folder.id),
        None => {
            let mut mails: Vec<_> = mailbox.mails.values().collect();
            mails.sort_by_key(|mail| (mail.received, mail.arrived));
            mails
        }
    };
    match asked.query("$orderby").unwrap_or("receivedDateTime desc") {
        "receivedDateTime desc" => mails.reverse(),
        "receivedDateTime" | "receivedDateTime asc" => {}
        other => return bad_query(&format!("Could not order by '{other}'.")),
    }
    match asked.query("$filter") {
        None => {}
        Some("isRead eq false") => mails.retain(|mail| !mail.is_read),
        Some(filter) => {
            if let Some((header, value)) = by_header(filter) {
                mails.retain(|mail| message::header(&mail.mime, header).as_deref() == Some(value));
            } else if let Some(id) = filter
                .strip_prefix("internetMessageId eq '")
                .and_then(|rest| rest.strip_suffix('\''))
            {
                let is_it = |mime| message::header(mime, "message-id").as_deref() == Some(id);
                mails.retain(|mail| is_it(&mail.mime));
            } else {
                let text = "The query filter contains one or more invalid nodes.";
                return Answer::error(400, "ErrorInvalidUrlQueryFilter", text);
            }
        }
    }
    let immutable = asked.wants_immutable_ids();
    let total = mails.len();
    let page: Vec<Value> = mails
        .into_iter()
        .skip(skip)
        .take(top)
        .map(|mail| message::json(mail, select.as_deref(), immutable))
        .collect();
    let mut answer = json!({ "value": page });
    if skip + top < total {
        let folder = folder.map_or(String::new(), |it| format!("/mailFolders('{}')", it.id));
        let select = asked
            .query("$select")
            .map_or(String::new(), |it| format!("&$select={it}"));
        let link = format!(
            "{base}{folder}/messages?$top={top}&$skip={}{select}",
            skip + top
        );
        answer["@odata.nextLink"] = link.into();
    }
    with_id_kind(asked, Answer::json(200, &answer))
}

/// Responds to a request for one mail, by its id.
fn one(mailbox: &mut Mailbox, asked: &Asked, id: &str, rest: &[&str]) -> Answer {
    let Some(mail) = mailbox.find(id) else {
        return not_found();
    };
    let immutable = asked.wants_immutable_ids();
    match (asked.method.as_str(), rest) {
        ("GET", []) => match known_parameters(asked, &["$select"]).and_then(|()| selected(asked)) {
            Ok(select) => {
                let found = message::json(mail, select.as_deref(), immutable);
                with_id_kind(asked, Answer::json(200, &found))
            }
            Err(answer) => answer,
        },
        ("GET", ["$value"]) => Answer {
            status: 200,
            content_type: "text/plain",
            headers: Vec::new(),
            body: mail.mime.clone(),
        },
        ("PATCH", []) => change(mailbox, asked, id),
        ("DELETE", []) => {
            mailbox.delete(id);
            Answer::empty(204)
        }
        ("POST", ["move"]) => {
            // Real clients write the first letter of a parameter in either case.
            let target = match body(asked) {
                Ok(body) => ["destinationId", "DestinationId"]
                    .iter()
                    .find_map(|name| body[name].as_str().map(str::to_owned)),
                Err(answer) => return answer,
            };
            let Some(target) = target.and_then(|key| Some(mailbox.folder(&key)?.id.clone())) else {
                return not_found();
            };
            let id = mail.id.clone();
            mailbox.move_to(&id, &target);
            match mailbox.find(&id) {
                Some(moved) => {
                    let moved = message::json(moved, None, immutable);
                    with_id_kind(asked, Answer::json(201, &moved))
                }
                None => not_found(),
            }
        }
        _ => no_segment(asked),
    }
}

fn change(mailbox: &mut Mailbox, asked: &Asked, id: &str) -> Answer {
    let changes = match body(asked) {
        Ok(Value::Object(changes)) => changes,
        Ok(_) => return Answer::error(400, "BadRequest", "Unable to read JSON request payload."),
        Err(answer) => return answer,
    };
    // Control information such as `@odata.type` is no property.
    if let Some(name) = changes
        .keys()
        .find(|name| !name.starts_with('@') && !CHANGEABLE.contains(&name.as_str()))
    {
        let text = format!("The property '{name}' cannot be changed.");
        return Answer::error(400, "ErrorInvalidPropertySet", &text);
    }
    mailbox.change(id, |mail| {
        if let Some(is_read) = changes.get("isRead").and_then(Value::as_bool) {
            mail.is_read = is_read;
        }
        if let Some(categories) = changes.get("categories").and_then(Value::as_array) {
            let names = categories.iter().filter_map(Value::as_str);
            mail.categories = names.map(str::to_owned).collect();
        }
    });
    match mailbox.find(id) {
        Some(mail) => {
            let changed = message::json(mail, None, asked.wants_immutable_ids());
            with_id_kind(asked, Answer::json(200, &changed))
        }
        None => not_found(),
    }
}

/// Returns a page of a folder's delta query.
fn delta(state: &mut State, asked: &Asked, address: &str, folder: &str, base: &str) -> Answer {
    let known = ["$select", "$top", "changeType", "$skiptoken", "$deltatoken"];
    let select = match known_parameters(asked, &known).and_then(|()| selected(asked)) {
        Ok(select) => select,
        Err(answer) => return answer,
    };
    let token = asked.query("$skiptoken").or(asked.query("$deltatoken"));
    let place = match token {
        Some(token) => match state.places.find(token) {
            Some(place) if place.mailbox == address && place.folder == folder => place,
            _ => {
                let text = "The sync state generation is not found; synchronize again.";
                return Answer::error(410, "syncStateNotFound", text);
            }
        },
        None => {
            let created_only = match asked.query("changeType") {
                None => false,
                Some("created") => true,
                Some(other) => return bad_query(&format!("changeType '{other}' is not served.")),
            };
            Place {
                mailbox: address.to_owned(),
                folder: folder.to_owned(),
                select,
                created_only,
                left: None,
                counter: 0,
            }
        }
    };
    let mailbox = state.mailbox(address);
    let is_first = token.is_none();
    let (mut left, counter) = match place.left.clone() {
        Some(left) => (left, place.counter),
        None => (changes(mailbox, &place, is_first), mailbox.counter),
    };
    let size = asked
        .prefer
        .iter()
        .find_map(|value| value.strip_prefix("odata.maxpagesize=")?.parse().ok());
    let size: usize = size.unwrap_or(PAGE_MAILS);
    let rest = left.split_off(left.len().min(size.clamp(1, PAGE_MAILS_MAX)));
    let immutable = asked.wants_immutable_ids();
    let entry = |entry: &Entry| match entry {
        // A mail that has left since is a removal in the next round.
        Entry::Mail(id) => {
            let mail = mailbox.find(id).filter(|mail| mail.folder == folder)?;
            Some(message::json(mail, place.select.as_deref(), immutable))
        }
        Entry::Removed(id) => Some(json!({ "id": id, "@removed": { "reason": "deleted" } })),
    };
    let page: Vec<Value> = left.iter().filter_map(entry).collect();
    let (name, key, left) = match rest.is_empty() {
        true => ("@odata.deltaLink", "$deltatoken", None),
        false => ("@odata.nextLink", "$skiptoken", Some(rest)),
    };
    let token = state.places.keep(Place {
        left,
        counter,
        ..place
    });
    let mut answer = json!({ "value": page });
    answer["@odata.context"] =
        format!("{base}/$metadata#Collection(microsoft.graph.message)").into();
    answer[name] = format!("{base}/mailFolders('{folder}')/messages/delta?{key}={token}").into();
    let mut answer = with_id_kind(asked, Answer::json(200, &answer));
    let applied = format!("odata.maxpagesize={size}");
    answer.headers.push(("preference-applied", applied));
    answer
}

/// Lists a folder: all its mails, newest first, or the changes since the last listing.
fn changes(mailbox: &Mailbox, place: &Place, is_first: bool) -> Vec<Entry> {
    let mut mails = mailbox.listed(&place.folder);
    mails.reverse();
    let is_new = |mail: &&super::GraphMail| {
        is_first
            || mail.arrived > place.counter
            || (!place.created_only && mail.changed > place.counter)
    };
    let mails = mails.into_iter().filter(is_new);
    let mut entries: Vec<Entry> = mails.map(|mail| Entry::Mail(mail.id.clone())).collect();
    if !is_first && !place.created_only {
        let removed = mailbox.removed.iter();
        let removed = removed.filter(|it| it.folder == place.folder && it.at > place.counter);
        entries.extend(removed.map(|it| Entry::Removed(it.id.clone())));
    }
    entries
}
