-- Failures of rules are counted by sender: each mail is now a word, the sender's key in hexadecimal, or a dot where the rule held. What
-- was counted before has no senders and is not kept.

DELETE FROM rule_strikes;
