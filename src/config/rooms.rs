//! How long rooms, presence and connections last.

use clap::Args;

/// How long rooms, presence and connections last.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Rooms and connections")]
pub(super) struct RoomSettings {
    /// An empty room leaves memory after this time.
    #[arg(
        long,
        env = "PAGEROOM_ROOM_IDLE_SECONDS",
        default_value_t = 30,
        value_name = "SECONDS"
    )]
    pub(super) room_idle_seconds: u64,
    /// A quiet room keeps only the encoded page in memory after this time.
    #[arg(
        long,
        env = "PAGEROOM_DOCUMENT_SLEEP_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    pub(super) document_sleep_seconds: u64,
    /// A crowded room sends deltas at most this often, because people do not see the difference. Rooms of up to 8 members never wait; each
    /// further member adds half a millisecond up to this.
    #[arg(
        long,
        env = "PAGEROOM_MAX_WINDOW_MILLISECONDS",
        default_value_t = 25,
        value_name = "MILLISECONDS"
    )]
    pub(super) max_window_milliseconds: u64,
    /// After a connection broke, its presence stays this long, so that a quick reconnect does not flicker.
    #[arg(
        long,
        env = "PAGEROOM_PRESENCE_GRACE_SECONDS",
        default_value_t = 3,
        value_name = "SECONDS"
    )]
    pub(super) presence_grace_seconds: u64,
    /// A presence that its client has not renewed for this long is withdrawn (Yjs clients renew every 15 s).
    #[arg(
        long,
        env = "PAGEROOM_PRESENCE_TIMEOUT_SECONDS",
        default_value_t = 30,
        value_name = "SECONDS"
    )]
    pub(super) presence_timeout_seconds: u64,
    /// Something is sent to each client at least this often (y-websocket clients reconnect after 30 s of silence).
    #[arg(
        long,
        env = "PAGEROOM_KEEPALIVE_SECONDS",
        default_value_t = 15,
        value_name = "SECONDS"
    )]
    pub(super) keepalive_seconds: u64,
    /// A client that answers no ping for this long is gone.
    #[arg(
        long,
        env = "PAGEROOM_CONNECTION_TIMEOUT_SECONDS",
        default_value_t = 35,
        value_name = "SECONDS"
    )]
    pub(super) connection_timeout_seconds: u64,
}
