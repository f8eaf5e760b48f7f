//! Pageroom: the server behind pages that many people edit at once. This page is the map of its code.
//!
//! # The shape
//!
//! Pure state machines and one thin shell. A [`Room`](rooms::Room) is one live page, a [`Host`](rooms::Host) runs it,
//! [`Slots`](rooms::Slots) say which pages are open, [`Batching`](rooms::Batching) gathers edits into transactions, and a
//! [`Session`](connections::Session) is one connection. All are plain structs into which inputs and the time go; tokio tasks around
//! them carry bytes. The simulation (`tests/sim`) runs the same structs in one thread from a seed.
//!
//! ```text
//!  client                                                                       store
//!    │ frame                                                                      ▲ bytes
//!    ▼                                                                            │
//!  connections ──► protocols ──► rooms: registry → room ──► crdt               storage
//!   (move frames)   (frame ⇄ message)       ▲  task: runs one room, carries out effects ┘
//!    ▲                                      │
//!    └────────── outbox ◄───────────────────┘      http, auth and access stand beside connections
//! ```
//!
//! Beside pages there are [rooms without a document](events::Rooms), in which applications tell each other events in their own vocabularies.
//!
//! What a page says as text or JSON is read in workers, processes of their own that may die ([`reader`]): a document library that breaks
//! on what somebody has sent breaks nothing else.
//!
//! [`crdt`] is the only place that names the CRDT engine, and [`storage`] the only one that names the database driver; neither knows the
//! server, or tokio's tasks. Dialects know of rooms only the messages, and rooms know nothing of dialects.
//!
//! # Walks through it
//!
//! **A keystroke.** A frame arrives in [`connections::websocket`], its dialect makes [`ClientMessage`](rooms::ClientMessage)s of it, and the
//! room's mailbox takes them. [`Room::handle`](rooms::Room::handle) lets the page's structs take in what can be integrated
//! ([`crdt::Document::admit`]); what builds on something missing waits ([`crdt::Document::park`]). [`Room::settle`](rooms::Room::settle)
//! puts one shared frame into the [outboxes](rooms::Outbox) of the other members (encoded once per dialect), and asks for an append to the log. The [writer](rooms::StoreWriter) gathers the
//! appends of all rooms into one transaction; snapshots leave apart, by the [compactor](rooms::Compactor). When it is committed the room hears of it, and only then the author gets its own update
//! back: the acknowledgement. A protocol that counts gets one receipt for each message instead.
//!
//! An edit that is sampled carries [spans](telemetry::Traces) on this way; all others carry none.
//!
//! **Joining.** [`http`] finds out who is asking ([`auth`]) and what it may do ([`access`]), accepts the upgrade in any case and hangs up with a code if the answer is no. The
//! [registry](rooms::Registry) opens the room once, however many arrive together. The room sends its state vector and who is here; it
//! answers the client's state vector with what is missing, as soon as all of that is durable. A protocol with many pages on one socket
//! ([`connections::hocuspocus`]) asks for each page anew, and keeps what is said to it until the answer is there.
//!
//! **A permission is taken away.** REST, an announcement of the database, or the end of a grant reaches [`access::Access`], which decides again
//! for every [seat](access::LiveSeat) concerned. The room's task is told past everything that waits in its mailbox: what the member had said
//! and nobody had taken in counts for nothing, what was queued for it is dropped, and its presence ends.
//!
//! **A slow reader.** Its [outbox](rooms::Outbox) is bounded in bytes. When it is full, document messages are dropped and the room remembers
//! what the member had; once the queue has left, the member gets one diff. Presence waits as the latest state per client. What any
//! message can cost is in a [table](costs).
//!
//! **A store that fails.** Editing goes on and nothing is acknowledged. Each room merges what waits, so that memory grows with the page
//! and not with time; beyond a budget connections are not read. `/readyz` is red until everything is stored. A page
//! that the store will not take, or that somebody else holds, goes on in a lane of its own and delays no other. A task without which
//! nothing is stored or enforced is watched ([`supervision`]): when it dies, the server stops.
//!
//! **A room that breaks.** A panic in a room ends that room only: what was not stored has not been acknowledged. Everybody
//! reconnects to a room rebuilt from the log. No engine runs in this process that bytes from outside could break.
//!
//! **An earlier state is asked for.** What a snapshot covers goes into the page's history in the transaction that writes the snapshot. [`http`]
//! asks for the nearest state before the one that is meant, and the rows from there on ([`storage::HistoryStore::past`]); [`history`] makes a
//! document of them, and readers show it without keeping it. Versions, and forgetting, are the work of a task beside the edits.
//!
//! **A page is deleted.** In the [`trash`] it is closed to everybody and otherwise as it was. Purging it ends its room, if that is still in
//! memory, and then deletes all that the store has of it. Whoever writes to it in another process is told another generation, and is rebuilt.
//!
//! **A page gets another id.** Its room ends, and the store moves all that it has of the page and remembers the former id, in one
//! transaction. Who comes by a former id is let in to the page under the id that it has ([`access::Membership::page`]); a room that another
//! process still has open under the former one is told with its next write that nothing was stored, and ends.
//!
//! **A page is compacted.** Its room ends and leaves a snapshot. What is live in that is written anew by one client
//! ([`crdt::Document::rebuilt`]) and takes its place, as another generation ([`rooms::Registry::rebuild`]). The store keeps which clients
//! there were before: a room refuses whoever names one of them, because with a copy of the former document everything would be there twice.
//!
//! **Events that are missed.** Every event that is told in a room has an offset ([`events::Epoch`] and a number that grows). A connection that
//! is lost and comes back within `PAGEROOM_RECOVERY_SECONDS` goes on with its rooms and hears what it has missed. Events that rules
//! keep ([`events::EventRules`]) are stored before they are acknowledged ([`events::History`]): who joins with `since: {epoch, offset}` hears them,
//! and `inbox:get` lists those of a user's own rooms.
//!
//! **A webhook is told.** The [writer](rooms::StoreWriter) and the rooms note which pages have news ([`webhooks::WebhookNotes`]). A task compares what is
//! stored of a page with what was told of it, and puts the difference into an outbox, in one transaction of the store; couriers post it to each
//! target, in order per page, until it is taken ([`webhooks`]).
//!
//! **A server is drained.** From then on nobody new is let in, and `/readyz` is red; whoever is here goes on ([`drain`]). When the time is over the
//! server stops as on a signal. Whoever runs it does that at `/admin`, a page of static files over REST ([`http`]), with what open pages weigh, who
//! is where, rates ([`tally`] counts for `/metrics` and for it), and what is logged ([`log_filter`]). One stream tells it what has changed.
//!
//! # What always holds
//!
//! 1. A room tells others only what it has applied, and acknowledges only what is stored.
//! 2. A page is open in at most one room of a process.
//! 3. What goes in comes out with the same content bytes; what comes early is stored as it is, told when it takes effect, and bounded.
//! 4. Read-only members cannot change a page, in any dialect.
//! 5. Every queue has a bound, and they are all in one [table](bounds).
//! 6. Pure modules ask for no time, entropy or socket, and iterate over no hash map.
//! 7. Bytes from outside never panic; `unsafe` is forbidden.
//!
//! `tests/sim` checks these from seeds, `tests/it` over real sockets, `tests/js` with real clients, and `tests/it/tidy.rs` reads the sources.
//!
//! # Words
//!
//! A *page* is stored, a *document* is its CRDT, a *room* the live place of one page, a *member* a connection's seat in it. A *user* is who a
//! token is about; a *client* is a Yjs client id or the program at the other end. A *frame* is what a transport carries, a *message* what a
//! dialect reads from it, an *update* what changes a document. *Applied*, *stored* and *acknowledged* are three different moments.
//!
//! # Events of an application's own
//!
//! `PAGEROOM_EVENTS_FILE` names a JSON file of rules:
//!
//! ```json
//! {
//!   "relay": [
//!     { "event": "poll:vote", "room": "page:{pageId}", "role": "comment", "maxBytes": 4096,
//!       "perSecond": 5, "burst": 10, "toSender": false, "keep": { "count": 200, "seconds": 86400 } }
//!   ],
//!   "keep": [
//!     { "room": "page:*", "event": "new_message", "count": 1000, "seconds": 604800 }
//!   ]
//! }
//! ```
//!
//! `relay` lists events that clients may tell each other: in which room (fields of the payload in braces), with which role there at least, how
//! large and how often, and whether the author hears it too. Payloads are objects, and get the author's `userId` from the token. Names that
//! the server or an application's vocabulary uses are refused by `check-config`. `keep` lists what is kept of which rooms: a name, or the beginning
//! of names before `*`; the first line that fits counts. Without a file nothing is relayed, and of `new_message`, `notification:new` and
//! `room-message-created` the last 1 000 of each room are kept for seven days.
//!
//! # Where to begin
//!
//! Who writes a program that reads and writes pages begins with [`backends`]. For who works on the server:
//! [`rooms::Input`] and [`rooms::Effect`] are the nouns, [`rooms::Room`] is the heart, [`protocols::y_websocket`] the simplest dialect,
//! [`storage`]'s front page the contract of a store, and [`config`] every limit there is.

pub mod access;
pub mod auth;
#[doc = include_str!("backends.md")]
pub mod backends {}
#[doc = include_str!("bounds.md")]
pub mod bounds {}
#[doc = include_str!("costs.md")]
pub mod costs {}
pub mod cli;
pub mod config;
pub mod connections;
pub mod drain;
pub mod events;
pub mod history;
pub mod http;
pub mod log_filter;
pub mod protocols;
pub mod reader;
pub mod rooms;
pub mod server;
pub mod supervision;
pub mod tally;
pub mod telemetry;
pub mod trash;
mod web_client;
pub mod webhooks;
