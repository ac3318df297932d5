-- The notes of a ticket are read for each mail that seems to belong to it: what stands in them is quoted.
CREATE INDEX item_note ON item (ticket, id) WHERE kind = 1;
