-- Shared mailboxes: the client of a mail is known only after it is parsed, so the mail has to be found under any client.

-- 64 bits of SHA-256 over the Message-ID alone; none for mail of a mailbox that belongs to one client.
ALTER TABLE journal ADD COLUMN shared_key INTEGER;
CREATE INDEX journal_shared ON journal (shared_key, content_hash) WHERE shared_key IS NOT NULL;

-- The client of a ticket is found by the mails that were sent for it.
CREATE INDEX sent_message ON sent (message_id);
