//! What is said to a place in a namespace, which is a protocol of its own.

use socketioxide_core::Value;

use crate::connections::protocol::Protocol;

/// A client's place in a namespace. A refusal ends the session; the last word of a place ends only the place, unless the client should
/// come back.
pub type Place = Box<dyn Protocol<Said>>;

/// What a client says in a namespace.
#[derive(Debug)]
pub enum Said {
    /// An event.
    Event(Event),
    /// The answer to an event of ours.
    Answer(i64, Value),
    /// That it leaves the namespace, and does not come back to this place.
    Goodbye,
}

/// An event of a client.
#[derive(Debug)]
pub struct Event {
    /// Its arguments, the name first.
    pub arguments: Value,
    /// The number under which the client waits for an answer.
    pub ack: Option<i64>,
}
