//! The HTTP clients of Microsoft Exchange, shared by sources and targets: Microsoft Graph, and Exchange Web Services.

mod connection;
mod error;
pub mod ews;
pub mod graph;

pub use connection::probe_connection;
pub use error::ExchangeError;
