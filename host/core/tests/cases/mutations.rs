//! Thousands of damaged mails, the same in every run: each still becomes a message, in bounded time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use postroom_core::{message_id, ticket_numbers};

use crate::{mails, parse};

/// Damaged copies of each case.
const COPIES: u64 = 60;

/// Pieces that break parsers when they are in the wrong place.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xc3",
    b"=?utf-8?q?",
    b"?=",
    b"--",
    b"\"",
    b"<",
    b">",
    b"(",
    b")",
    b"\\",
    b":",
    b";",
    b"=",
    b"*0*=",
    b"\r\n\r\n",
    b"\r\n ",
    b"Content-Type: multipart/mixed; boundary=x\r\n",
    b"boundary=",
    b"&",
    b"<!--",
    b"> ",
];

#[test]
fn damaged_mails_become_messages() {
    let mails = mails();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (folder, raw) in &mails {
        for copy in 0..COPIES {
            let mut damaged = raw.to_vec();
            for _ in 0..=random.below(6) {
                random.damage(&mut damaged, &mails[random.peek_below(mails.len())].1);
            }
            let damaged = Bytes::from(damaged);
            let started = Instant::now();
            let mail = parse(&damaged);
            ticket_numbers(&mail.subject);
            let id = message_id(&damaged);
            let name = folder.display();
            assert!(
                id.is_none_or(|id| id == mail.message_id),
                "{name}, copy {copy}"
            );
            assert!(!mail.message_id.is_empty(), "{name}, copy {copy}");
            assert_eq!(
                mail.reply.is_empty(),
                mail.text.trim().is_empty(),
                "{name}, copy {copy}"
            );
            assert!(
                started.elapsed() < Duration::from_millis(500),
                "{name}, copy {copy}"
            );
        }
    }
}

/// Every prefix of every short case.
#[test]
fn cut_off_mails_become_messages() {
    for (_, raw) in mails() {
        for end in 0..raw.len().min(3000) {
            parse(&raw.slice(..end));
        }
    }
}

/// Xorshift: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn peek_below(&self, bound: usize) -> usize {
        (self.0 % bound.max(1) as u64) as usize
    }

    fn damage(&mut self, mail: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(mail.len() + 1);
        match self.below(6) {
            0 if at < mail.len() => mail[at] = self.next() as u8,
            1 if at < mail.len() => {
                mail.remove(at);
            }
            2 => {
                let end = (at + self.below(200)).min(mail.len());
                mail.drain(at..end);
            }
            3 => {
                let end = (at + self.below(200)).min(mail.len());
                let piece = mail[at..end].to_vec();
                mail.splice(at..at, piece);
            }
            4 => {
                let from = self.below(other.len() + 1);
                let end = (from + self.below(300)).min(other.len());
                mail.splice(at..at, other[from..end].iter().copied());
            }
            _ => {
                let piece = PIECES[self.below(PIECES.len())];
                mail.splice(at..at, piece.iter().copied());
            }
        }
    }
}
