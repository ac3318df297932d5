-- Purging goes by the rows that raw still has: a mark would leave behind for ever what had to be kept when it went by.

DROP TABLE watermark;
