//! SOAP as Exchange uses it: requests in their envelope, and the content of responses and faults.

use std::time::Duration;

use postroom_core::harmless::harmless_chars;
use postroom_net::Step;

use super::xml::{Element, escaped};
use crate::ExchangeError;

/// The schema version of requests: that of Exchange 2013 SP1, the first that can suppress read receipts.
pub const SERVER_VERSION: &str = "Exchange2013_SP1";
/// The longest pause that a server can ask for; a longer one is cut to this.
const BACK_OFF_MAX: Duration = Duration::from_secs(60 * 60);
/// How much of a server's explanation is kept.
const TEXT_CHARS: usize = 300;

/// Wraps a request in its envelope, on behalf of a mailbox's owner if one is given.
pub fn envelope(impersonated: Option<&str>, body: &str) -> String {
    let header = impersonated.map_or_else(String::new, |address| {
        format!(
            "<t:ExchangeImpersonation><t:ConnectingSID><t:SmtpAddress>{}</t:SmtpAddress></t:ConnectingSID></t:ExchangeImpersonation>",
            escaped(address)
        )
    });
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\">\
         <s:Header><t:RequestServerVersion Version=\"{SERVER_VERSION}\"/>{header}</s:Header>\
         <s:Body>{body}</s:Body></s:Envelope>"
    )
}

/// An operation, or a part of it, that the server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The ResponseCode; empty if the fault has none.
    pub code: String,
    /// The server's explanation.
    pub text: String,
    pub back_off: Option<Duration>,
}

/// The meaning of a ResponseCode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The server throttles the caller for a while.
    Busy,
    /// A temporary failure of the server itself.
    Passing,
    /// The caller may not act for the mailbox, or the mailbox does not exist.
    NoMailbox,
    AccessDenied,
    FolderMissing,
    ItemGone,
    /// The change key is not the item's current one.
    Conflict,
    SyncStateInvalid,
    OverQuota,
    /// The server does not support the schema version of the requests.
    Version,
    Other,
}

impl Refusal {
    pub fn kind(&self) -> Kind {
        match self.code.as_str() {
            "ErrorServerBusy"
            | "ErrorExceededConnectionCount"
            | "ErrorExceededFindCountLimit"
            | "ErrorTooManyObjectsOpened" => Kind::Busy,
            "ErrorInternalServerError"
            | "ErrorInternalServerTransientError"
            | "ErrorTimeoutExpired"
            | "ErrorMailboxStoreUnavailable"
            | "ErrorMailboxMoveInProgress"
            | "ErrorMailboxFailover"
            | "ErrorConnectionFailed"
            | "ErrorBatchProcessingStopped"
            | "ErrorADUnavailable"
            | "ErrorADOperation"
            | "ErrorProxyRequestProcessingFailed"
            | "ErrorNoRespondingCASInDestinationSite" => Kind::Passing,
            "ErrorImpersonateUserDenied"
            | "ErrorImpersonationDenied"
            | "ErrorImpersonationFailed"
            | "ErrorNonExistentMailbox"
            | "ErrorMissingEmailAddress"
            | "ErrorInvalidSmtpAddress"
            | "ErrorAccountDisabled" => Kind::NoMailbox,
            "ErrorAccessDenied" => Kind::AccessDenied,
            "ErrorFolderNotFound" | "ErrorToFolderNotFound" | "ErrorParentFolderNotFound" => {
                Kind::FolderMissing
            }
            "ErrorItemNotFound" => Kind::ItemGone,
            "ErrorIrresolvableConflict"
            | "ErrorStaleObject"
            | "ErrorInvalidChangeKey"
            | "ErrorChangeKeyRequired"
            | "ErrorChangeKeyRequiredForWriteOperations" => Kind::Conflict,
            "ErrorInvalidSyncStateData" => Kind::SyncStateInvalid,
            "ErrorQuotaExceeded" | "ErrorMailboxStoreFull" => Kind::OverQuota,
            "ErrorInvalidServerVersion" | "ErrorIncorrectSchemaVersion" => Kind::Version,
            _ => Kind::Other,
        }
    }

    /// Returns the code and the server's explanation, as far as there are any.
    pub fn describe(&self) -> String {
        match (self.code.is_empty(), self.text.is_empty()) {
            (true, _) => self.text.clone(),
            (_, true) => self.code.clone(),
            _ => format!("{}: {}", self.code, self.text),
        }
    }

    /// Converts the refusal to the error of a step.
    pub fn into_error(self, step: Step) -> ExchangeError {
        let text = self.describe();
        match self.kind() {
            Kind::Busy => ExchangeError::OverLimit {
                step,
                text,
                retry_after: self.back_off,
            },
            Kind::Passing => ExchangeError::Transient { step, reason: text },
            Kind::NoMailbox => ExchangeError::NotConnected { text },
            Kind::AccessDenied if step == Step::Select => ExchangeError::NotConnected { text },
            Kind::OverQuota => ExchangeError::OverQuota { step, text },
            Kind::Version => ExchangeError::Protocol {
                step,
                reason: format!("the server is older than {SERVER_VERSION}: {text}"),
            },
            _ => ExchangeError::Refused {
                step,
                code: Some(self.code).filter(|code| !code.is_empty()),
                text,
            },
        }
    }
}

/// Returns the response messages of a response in order, each as its element or its refusal. A fault refuses all of them.
pub fn messages<'r, 'x>(
    root: &'r Element<'x>,
) -> Result<Vec<Result<&'r Element<'x>, Refusal>>, Option<Refusal>> {
    let body = root.child("Body").filter(|_| root.name == "Envelope");
    let Some(answer) = body.and_then(|body| body.children.first()) else {
        return Err(None);
    };
    if answer.name == "Fault" {
        return Err(Some(fault(answer)));
    }
    let Some(messages) = answer.child("ResponseMessages") else {
        return Err(None);
    };
    Ok(messages
        .children
        .iter()
        .map(|message| match message.attribute("ResponseClass") {
            Some("Error") => Err(Refusal {
                code: message.text_of("ResponseCode").to_owned(),
                text: shown(message.text_of("MessageText")),
                back_off: back_off(message),
            }),
            _ => Ok(message),
        })
        .collect())
}

fn fault(fault: &Element<'_>) -> Refusal {
    let detail = fault.child("detail");
    let in_detail = |name| detail.map_or("", |detail| detail.text_of(name));
    // Without a detail element, the code is in the faultcode, such as `a:ErrorSchemaValidation`.
    let faultcode = fault.text_of("faultcode");
    let faultcode = faultcode.rsplit(':').next().unwrap_or_default();
    let code = match in_detail("ResponseCode") {
        "" if faultcode.starts_with("Error") => faultcode,
        code => code,
    };
    Refusal {
        code: code.to_owned(),
        text: shown(match in_detail("Message") {
            "" => fault.text_of("faultstring"),
            text => text,
        }),
        back_off: detail.and_then(back_off),
    }
}

/// Returns the pause that the server asks for, capped.
fn back_off(element: &Element<'_>) -> Option<Duration> {
    let values = element.find("MessageXml")?;
    let value = values
        .children
        .iter()
        .find(|value| value.attribute("Name") == Some("BackOffMilliseconds"))?;
    let millis = value.text.trim().parse().ok()?;
    Some(Duration::from_millis(millis).min(BACK_OFF_MAX))
}

/// Returns a server's text on one line, shortened.
pub fn shown(text: &str) -> String {
    harmless_chars(text.trim()).take(TEXT_CHARS).collect()
}

/// Returns `ItemId` elements for a list of ids.
pub fn item_ids<S: AsRef<str>>(ids: &[S]) -> String {
    ids.iter()
        .map(|id| format!("<t:ItemId Id=\"{}\"/>", escaped(id.as_ref())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> Option<Refusal> {
        let text = format!("<s:Envelope xmlns:s=\"u\"><s:Body>{body}</s:Body></s:Envelope>");
        let root = Element::parse(&text).unwrap();
        match messages(&root) {
            Err(refusal) => refusal,
            Ok(messages) => messages.into_iter().find_map(Result::err),
        }
    }

    #[test]
    fn a_busy_server_names_its_pause_in_a_fault_or_in_a_message() {
        let detail = "<e:ResponseCode>ErrorServerBusy</e:ResponseCode><e:Message>busy</e:Message>\
            <t:MessageXml><t:Value Name=\"Other\">1</t:Value><t:Value Name=\"BackOffMilliseconds\">2500</t:Value></t:MessageXml>";
        let fault = format!(
            "<s:Fault><faultcode>a:ErrorServerBusy</faultcode><faultstring>x</faultstring><detail>{detail}</detail></s:Fault>"
        );
        let message = "<m:R><m:ResponseMessages><m:M ResponseClass=\"Success\"/><m:M ResponseClass=\"Error\"><m:MessageText>busy</m:MessageText>\
            <m:ResponseCode>ErrorServerBusy</m:ResponseCode><m:MessageXml><t:Value Name=\"BackOffMilliseconds\">2500</t:Value></m:MessageXml></m:M></m:ResponseMessages></m:R>";
        for body in [fault.as_str(), message] {
            let error = refusal(body).unwrap().into_error(Step::List);
            let ExchangeError::OverLimit {
                text, retry_after, ..
            } = error
            else {
                panic!("{error:?}");
            };
            assert_eq!(text, "ErrorServerBusy: busy");
            assert_eq!(retry_after, Some(Duration::from_millis(2500)));
        }
    }

    #[test]
    fn a_pause_is_capped_and_nonsense_is_none() {
        for (millis, expected) in [
            ("99999999999", Some(BACK_OFF_MAX)),
            ("-1", None),
            ("soon", None),
        ] {
            let body = format!(
                "<Fault><faultcode>ErrorServerBusy</faultcode><detail><MessageXml><Value Name=\"BackOffMilliseconds\">{millis}</Value></MessageXml></detail></Fault>"
            );
            assert_eq!(refusal(&body).unwrap().back_off, expected, "{millis}");
        }
    }

    #[test]
    fn what_is_no_answer_of_exchange_is_told_from_a_refusal() {
        for body in ["", "<html/>", "<m:R/>"] {
            assert_eq!(refusal(body), None, "{body}");
        }
        let root = Element::parse("<html><Body><Fault/></Body></html>").unwrap();
        assert!(matches!(messages(&root), Err(None)));
    }

    #[test]
    fn the_owner_of_the_mailbox_is_named_in_the_header() {
        let plain = envelope(None, "<m:X/>");
        assert!(!plain.contains("Impersonation"));
        let named = envelope(Some("a&b@acme.example"), "<m:X/>");
        let root = Element::parse(&named).unwrap();
        let path = ["Header", "ExchangeImpersonation", "ConnectingSID"];
        let sid = root.at(&path).unwrap();
        assert_eq!(sid.text_of("SmtpAddress"), "a&b@acme.example");
    }
}
