//! Empty: the guests are the examples, so that one crate builds them all.
