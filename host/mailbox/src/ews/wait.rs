//! Waiting for new mail: streaming notifications, or only the poll if the server refuses them.

use std::time::Duration;

use postroom_exchange::ews::{
    ANSWER_BYTES, Affinity, Element, Refusal, Request, escaped, messages, protocol, shown,
};
use postroom_net::Step;
use reqwest::Response;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::folders::folder_id;
use super::refusal::OfFolder;
use super::{EwsSource, Session, parsed};
use crate::SourceError;

const STEP: Step = Step::Wait;
/// The longest notification.
const NOTIFICATION_BYTES: usize = 256 * 1024;
/// A stream that lasts less than this counts as ended at once.
const STREAM_MIN: Duration = Duration::from_secs(30);
/// The number of such streams in a row after which only the poll finds new mail.
const SHORT_STREAMS_MAX: u32 = 3;
/// Events that may bring mail.
const EVENTS: [&str; 3] = ["NewMailEvent", "CreatedEvent", "MovedEvent"];

/// The state of notifications.
#[derive(Default)]
pub(super) struct Listening {
    pub listener: Option<Listener>,
    /// When the server last refused them.
    refused: Option<Instant>,
    /// The number of consecutive streams that ended at once.
    short: u32,
}

/// A subscription and the stream of its notifications.
pub(super) struct Listener {
    subscription: String,
    affinity: Option<Affinity>,
    stream: Response,
    /// The beginning of an incomplete notification.
    buffer: Vec<u8>,
    since: Instant,
    /// When the server ends the stream.
    until: Instant,
}

/// The meaning of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// A keep-alive.
    Nothing,
    News,
    /// The stream has ended.
    Ended,
}

impl EwsSource {
    /// Waits. The stream stays open when this returns or is dropped.
    pub(super) async fn wait_for_news(&mut self, timeout: Duration) -> Result<(), SourceError> {
        let end = Instant::now() + timeout;
        let timeouts = self.session.settings.timeouts;
        if self.listening.listener.is_none() {
            let refused = self.listening.refused;
            if refused.is_some_and(|at| at.elapsed() < timeouts.retry_stream) {
                sleep_until(end).await;
                return Ok(());
            }
            match self.session.listen().await {
                // Mail that arrived before the subscription raises no event, so the caller checks once more.
                Ok(listener) => {
                    self.listening.listener = Some(listener);
                    self.listening.refused = None;
                    return Ok(());
                }
                Err(error @ (SourceError::Refused { .. } | SourceError::Protocol { .. })) => {
                    tracing::info!(
                        mailbox = self.session.settings.name,
                        "the server sends no notifications, new mail is found by the poll: {error}"
                    );
                    self.listening.refused = Some(Instant::now());
                    sleep_until(end).await;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let Some(listener) = &mut self.listening.listener else {
            return Ok(());
        };
        let outcome = timeout_at(end.min(listener.until), listener.next()).await;
        let is_short = listener.since.elapsed() < STREAM_MIN;
        match outcome {
            Err(_) if Instant::now() < listener.until => return Ok(()),
            Ok(Ok(Said::News)) => {
                self.listening.short = 0;
                return Ok(());
            }
            Ok(Err(error)) if !error.is_transient() => return Err(error),
            // A proxy in between may cut long responses. That costs nothing but the delay until the poll.
            Ok(Err(error)) => {
                tracing::debug!(
                    mailbox = self.session.settings.name,
                    "the stream of notifications broke: {error}"
                );
            }
            Err(_) | Ok(Ok(_)) => {}
        }
        // The next wait opens it again, unless the server only pretends to stream.
        self.listening.listener = None;
        self.listening.short = match is_short {
            true => self.listening.short + 1,
            false => 0,
        };
        if self.listening.short >= SHORT_STREAMS_MAX {
            tracing::info!(
                mailbox = self.session.settings.name,
                "the server ends each stream of notifications at once, new mail is found by the poll"
            );
            self.listening.short = 0;
            self.listening.refused = Some(Instant::now());
        }
        Ok(())
    }
}

impl Listener {
    /// Waits for a notification that matters. May be dropped at any time.
    async fn next(&mut self) -> Result<Said, SourceError> {
        loop {
            while let Some(length) = notification(&self.buffer) {
                let text: Vec<u8> = self.buffer.drain(..length).collect();
                match read(&text)? {
                    Said::Nothing => {}
                    said => return Ok(said),
                }
            }
            if self.buffer.len() > NOTIFICATION_BYTES {
                let reason = format!("a notification of more than {NOTIFICATION_BYTES} bytes");
                return Err(protocol(STEP, &reason).into());
            }
            match self.stream.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Ok(Said::Ended),
                Err(error) => {
                    return Err(SourceError::Transient {
                        step: STEP,
                        reason: shown(&error.without_url().to_string()),
                    });
                }
            }
        }
    }

    /// Ends the subscription.
    pub async fn unsubscribe(self, session: &mut Session) -> Result<(), SourceError> {
        drop(self.stream);
        let body = format!(
            "<m:Unsubscribe><m:SubscriptionId>{}</m:SubscriptionId></m:Unsubscribe>",
            escaped(&self.subscription)
        );
        let request = Request {
            affinity: self.affinity.as_ref(),
            ..Request::new(STEP, "Unsubscribe", body, ANSWER_BYTES)
        };
        Ok(session.exchange.send(&request).await.map(drop)?)
    }
}

impl Session {
    /// Subscribes to the folder and opens the stream.
    async fn listen(&mut self) -> Result<Listener, SourceError> {
        let folder = self.ready().await?.id.clone();
        let events: String = EVENTS
            .iter()
            .map(|event| format!("<t:EventType>{event}</t:EventType>"))
            .collect();
        let body = format!(
            "<m:Subscribe><m:StreamingSubscriptionRequest><t:FolderIds>{}</t:FolderIds>\
             <t:EventTypes>{events}</t:EventTypes></m:StreamingSubscriptionRequest></m:Subscribe>",
            folder_id(&folder)
        );
        let request = Request {
            wants_affinity: true,
            ..Request::new(STEP, "Subscribe", body, ANSWER_BYTES)
        };
        let answer = self.exchange.send(&request).await?;
        let root = parsed(STEP, &answer.body)?;
        let message = self.only(STEP, &root, &self.settings.folder)?;
        let subscription = message.text_of("SubscriptionId").to_owned();
        if subscription.is_empty() {
            return Err(protocol(STEP, "a subscription without an id").into());
        }
        let minutes = (self.settings.timeouts.stream.as_secs() / 60).clamp(1, 30);
        let body = format!(
            "<m:GetStreamingEvents><m:SubscriptionIds><t:SubscriptionId>{}</t:SubscriptionId></m:SubscriptionIds>\
             <m:ConnectionTimeout>{minutes}</m:ConnectionTimeout></m:GetStreamingEvents>",
            escaped(&subscription)
        );
        let request = Request {
            affinity: answer.affinity.as_ref(),
            ..Request::new(STEP, "GetStreamingEvents", body, ANSWER_BYTES)
        };
        let stream = self.exchange.open(&request).await?;
        tracing::debug!(mailbox = self.settings.name, minutes, "subscribed");
        Ok(Listener {
            subscription,
            affinity: answer.affinity,
            stream,
            buffer: Vec::new(),
            since: Instant::now(),
            until: Instant::now() + Duration::from_secs(minutes * 60),
        })
    }
}

/// Returns the length of the first complete envelope. A stream is a sequence of envelopes, each with or without its own prefix.
fn notification(buffer: &[u8]) -> Option<usize> {
    const END: &[u8] = b"Envelope>";
    let mut from = 0;
    while let Some(found) = buffer
        .get(from..)?
        .windows(END.len())
        .position(|window| window == END)
    {
        let end = from + found + END.len();
        let before = &buffer[..from + found];
        let name = before.iter().rposition(|byte| *byte == b'<');
        if name.is_some_and(|at| before.get(at + 1) == Some(&b'/')) {
            return Some(end);
        }
        from = end;
    }
    None
}

fn read(text: &[u8]) -> Result<Said, SourceError> {
    let text = std::str::from_utf8(text)
        .map_err(|_| protocol(STEP, "a notification that is not UTF-8"))?;
    let root = parsed(STEP, text)?;
    let messages = match messages(&root) {
        Ok(messages) => messages,
        Err(Some(fault)) => {
            let code = fault.code.clone();
            return Err(Refusal {
                text: code,
                ..fault
            }
            .for_folder(STEP, ""));
        }
        Err(None) => {
            return Err(protocol(STEP, "a notification that is no answer of Exchange").into());
        }
    };
    let mut said = Said::Nothing;
    for message in messages {
        match message {
            // The subscription expired, or the server that held it is gone.
            Err(refusal) => {
                tracing::debug!(code = refusal.code, "the subscription ended");
                return Ok(Said::Ended);
            }
            Ok(message) => {
                if has_news(message) {
                    said = Said::News;
                }
                if message.text_of("ConnectionStatus") == "Closed" && said == Said::Nothing {
                    said = Said::Ended;
                }
            }
        }
    }
    Ok(said)
}

fn has_news(message: &Element<'_>) -> bool {
    EVENTS.iter().any(|event| message.find(event).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(body: &str) -> String {
        format!(
            "<s:Envelope xmlns:s=\"u\"><s:Body><m:R><m:ResponseMessages><m:M ResponseClass=\"Success\">{body}</m:M></m:ResponseMessages></m:R></s:Body></s:Envelope>"
        )
    }

    #[test]
    fn envelopes_are_cut_out_of_the_stream() {
        let one = envelope("<m:ConnectionStatus>OK</m:ConnectionStatus>");
        let two = one.replace("s:", "soap12:");
        let stream = format!("{one}{two}<Envelope>");
        let first = notification(stream.as_bytes()).unwrap();
        assert_eq!(&stream[..first], one);
        let second = notification(&stream.as_bytes()[first..]).unwrap();
        assert_eq!(&stream[first..first + second], two);
        assert_eq!(notification(&stream.as_bytes()[first + second..]), None);
        assert_eq!(notification(b""), None);
    }

    #[test]
    fn a_notification_is_news_a_sign_of_life_or_the_end() {
        for (body, expected) in [
            ("<m:ConnectionStatus>OK</m:ConnectionStatus>", Said::Nothing),
            (
                "<m:ConnectionStatus>Closed</m:ConnectionStatus>",
                Said::Ended,
            ),
            (
                "<m:Notifications><m:Notification><t:NewMailEvent/></m:Notification></m:Notifications>",
                Said::News,
            ),
            (
                "<m:Notifications><m:Notification><t:ModifiedEvent/></m:Notification></m:Notifications>",
                Said::Nothing,
            ),
        ] {
            let said = read(envelope(body).as_bytes()).unwrap();
            assert_eq!(said, expected, "{body}");
        }
        let refused = envelope("").replace("Success", "Error");
        assert_eq!(read(refused.as_bytes()).unwrap(), Said::Ended);
        assert!(read(b"<html/>").is_err());
    }
}
