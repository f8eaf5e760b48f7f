//! A Hocuspocus provider byte by byte: it says what a test tells it to, and reads every frame as providers do.

use std::{collections::VecDeque, net::SocketAddr};

use bytes::Bytes;
use crdt::encoding::{Reader, Write};

use super::{
    server::TestServer,
    socket::{Closed, Heard, Socket},
    token::token,
};

/// What the server says to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Step1(Bytes),
    Step2(Bytes),
    Update(Bytes),
    Awareness(Bytes),
    /// "Send me a fresh token."
    TokenRequest,
    Denied(String),
    LetIn(String),
    Stateless(String),
    Closed(String),
    Status(u64),
    /// "Who are you?"
    Question,
    /// Has no address.
    Ping,
    /// Has no address.
    Pong,
}

/// A provider's socket.
pub(crate) struct Provider {
    pub(crate) socket: Socket,
    heard: VecDeque<(String, Word)>,
}

impl Provider {
    pub(crate) async fn open(server: &TestServer) -> Self {
        Self::open_at(server.address, "/hocuspocus").await
    }

    pub(crate) async fn open_at(address: SocketAddr, path: &str) -> Self {
        Self {
            socket: Socket::open(address, path).await,
            heard: VecDeque::new(),
        }
    }

    /// Speaks over a socket that is open.
    pub(crate) fn over(socket: Socket) -> Self {
        Self {
            socket,
            heard: VecDeque::new(),
        }
    }

    /// Opens a socket with a query and headers of its own.
    pub(crate) async fn open_with(
        server: &TestServer,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Self {
        let path = format!("/hocuspocus?{query}");
        Self {
            socket: Socket::open_with(server.address, &path, headers).await,
            heard: VecDeque::new(),
        }
    }

    /// Opens a socket and enters a page of an open server; what is said at first has been heard.
    pub(crate) async fn join(server: &TestServer, address: &str) -> Self {
        let mut provider = Self::open(server).await;
        provider.enter(address, "").await;
        provider
    }

    /// Shows a token, asks for everything, and waits until it has come.
    pub(crate) async fn enter(&mut self, address: &str, token: &str) {
        self.show_token(address, token).await;
        self.say(address, &[0, 0, 1, 0]).await;
        self.until(address, |word| matches!(word, Word::LetIn(_))).await;
        self.until(address, |word| matches!(word, Word::Step2(_))).await;
    }

    /// Sends a message: what follows the address.
    pub(crate) async fn say(&mut self, address: &str, body: &[u8]) {
        self.socket.say(framed(address, body)).await;
    }

    /// Shows a token as providers before the fourth generation do.
    pub(crate) async fn show_token(&mut self, address: &str, token: &str) {
        let mut body = vec![2, 0];
        body.put_string(token);
        self.say(address, &body).await;
    }

    /// Shows a token with a version behind it.
    pub(crate) async fn show_token_and_version(&mut self, address: &str, token: &str) {
        let mut body = vec![2, 0];
        body.put_string(token);
        body.put_string("4.8.0");
        self.say(address, &body).await;
    }

    /// Shows a token of `user` with a role on one page.
    pub(crate) async fn show_role(&mut self, page: &str, user: &str, role: &str) {
        let token = token(user, &serde_json::json!({ page: role }));
        self.show_token(page, &token).await;
    }

    /// Leaves a page, and waits until the server has heard of it.
    pub(crate) async fn take_leave(&mut self, address: &str) {
        self.say(address, &[7]).await;
        self.socket.say([9].as_slice()).await;
        self.until("", |word| *word == Word::Pong).await;
    }

    pub(crate) async fn edit(&mut self, address: &str, update: &[u8]) {
        self.say(address, &with_buffer(&[0, 2], update)).await;
    }

    pub(crate) async fn step_2(&mut self, address: &str, update: &[u8]) {
        self.say(address, &with_buffer(&[0, 1], update)).await;
    }

    pub(crate) async fn show(&mut self, address: &str, presence: &[u8]) {
        self.say(address, &with_buffer(&[1], presence)).await;
    }

    pub(crate) async fn say_stateless(&mut self, address: &str, text: &str) {
        self.say(address, &with_buffer(&[5], text.as_bytes())).await;
    }

    /// The next thing the server says.
    pub(crate) async fn hear(&mut self) -> Result<(String, Word), Closed> {
        if let Some(heard) = self.heard.pop_front() {
            return Ok(heard);
        }
        match self.socket.hear().await {
            Heard::Frame(frame) => Ok(read(&frame)),
            Heard::Closed(closed) => Err(closed),
        }
    }

    /// Waits for something said to an address and takes it out; what else is said meanwhile is kept.
    pub(crate) async fn until(&mut self, address: &str, is_it: impl Fn(&Word) -> bool) -> Word {
        let mut others = VecDeque::new();
        loop {
            let (to, word) = match self.hear().await {
                Ok(heard) => heard,
                Err(closed) => panic!("hung up on, {closed:?}, after {others:?}"),
            };
            if to == address && is_it(&word) {
                others.append(&mut self.heard);
                self.heard = others;
                return word;
            }
            others.push_back((to, word));
        }
    }

    /// A round trip: whatever the server had to say to this address before has been heard.
    pub(crate) async fn settle(&mut self, address: &str) {
        self.say(address, &[0, 0, 1, 0]).await;
        self.until(address, |word| matches!(word, Word::Step2(_))).await;
    }

    /// Takes everything heard so far that was said to an address, except questions and presence.
    pub(crate) fn told(&mut self, address: &str) -> Vec<Word> {
        let (told, others) = std::mem::take(&mut self.heard)
            .into_iter()
            .partition(|(to, _)| to == address);
        self.heard = others;
        let told: VecDeque<(String, Word)> = told;
        let words = told.into_iter().map(|(_, word)| word);
        words
            .filter(|word| !matches!(word, Word::Step1(_) | Word::Awareness(_) | Word::Question))
            .collect()
    }

    /// Waits for this many status messages and says what they are.
    pub(crate) async fn statuses(&mut self, address: &str, count: usize) -> Vec<u64> {
        let mut statuses = Vec::new();
        while statuses.len() < count {
            if let Word::Status(status) = self.until(address, |word| matches!(word, Word::Status(_))).await {
                statuses.push(status);
            }
        }
        statuses
    }

    /// How the connection ends; whatever comes before is kept.
    pub(crate) async fn closed(&mut self) -> Closed {
        loop {
            match self.socket.hear().await {
                Heard::Frame(frame) => self.heard.push_back(read(&frame)),
                Heard::Closed(closed) => return closed,
            }
        }
    }
}

/// A frame for an address.
pub(crate) fn framed(address: &str, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_string(address);
    frame.put_raw(body);
    frame
}

fn with_buffer(head: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = head.to_vec();
    body.put_buffer(payload);
    body
}

fn read(frame: &Bytes) -> (String, Word) {
    match &frame[..] {
        [9] => return (String::new(), Word::Ping),
        [10] => return (String::new(), Word::Pong),
        _ => {}
    }
    let mut reader = Reader::new(frame);
    let address = reader.string().expect("an address").to_owned();
    let buffer = |reader: &mut Reader<'_>| Bytes::copy_from_slice(reader.buffer().expect("a payload"));
    let text = |reader: &mut Reader<'_>| reader.string().expect("text").to_owned();
    let kind = reader.number().expect("a type");
    let word = match kind {
        0 => match reader.number().expect("a step") {
            0 => Word::Step1(buffer(&mut reader)),
            1 => Word::Step2(buffer(&mut reader)),
            2 => Word::Update(buffer(&mut reader)),
            step => panic!("sync message {step}"),
        },
        1 => Word::Awareness(buffer(&mut reader)),
        2 => match reader.number().expect("a kind of auth message") {
            0 => Word::TokenRequest,
            1 => Word::Denied(text(&mut reader)),
            2 => Word::LetIn(text(&mut reader)),
            kind => panic!("auth message {kind}"),
        },
        3 => Word::Question,
        5 => Word::Stateless(text(&mut reader)),
        7 => Word::Closed(text(&mut reader)),
        8 => Word::Status(reader.number().expect("a status")),
        kind => panic!("a message of type {kind}, which providers do not know"),
    };
    assert!(reader.is_at_end(), "one message in each frame: {frame:02x?}");
    (address, word)
}
