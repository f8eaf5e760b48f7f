//! What whoever runs the server is told of it: the log, the numbers, and spans of what is sampled.
//!
//! The log goes to standard error, the numbers to `/metrics`. Where a collector is named, numbers and spans go to it over OTLP as well
//! ([`otlp`]). What is done for a request or on a connection knows what that is called ([`Correlation`]), so that a line of the
//! log, a span and an answer can be found by each other. Spans follow edits only when they are sampled ([`Traces`]); an
//! edit that is not carries an empty one, which costs nothing.
//!
//! Neither the log nor a span has tokens or content in it.

mod correlation;
mod log;
mod metrics;
pub mod otlp;
mod trace_context;
mod traces;

pub use correlation::{Correlation, REQUEST_ID, RequestId};
pub use log::{LogFormat, install_log};
pub use metrics::{Fault, METRICS, Metrics, Totals};
pub use trace_context::{RequestSpan, TraceContext, TraceParent, Tracing};
pub use traces::{CommitSpan, Traces};
