//! The end of a run: everything heals, everybody comes back, and what must hold at rest is checked.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use crdt::{ClientId, Document, Limits};
use pageroom::rooms::open_document;

use crate::{properties, world::World};

impl World {
    pub(crate) fn comes_to_rest(&mut self) {
        self.trace.note(|| "everything heals".to_owned());
        self.heals();
        self.advance(Duration::from_secs(75));
        if self.settings.processes > 1 {
            // A process learns of another one's last rows when it opens the page, so everybody leaves once.
            self.everybody_leaves();
            self.everybody_comes();
            self.advance(Duration::from_secs(75));
        }
        for post in &self.posts {
            assert!(post.stored, "a backend waits for an answer for ever");
        }
        for page in 0..self.pages.len() {
            self.everybody_sees_the_same(page);
        }
        self.nothing_happens();
        self.everybody_leaves();
        self.nothing_is_left();
    }

    /// No more faults: processes run, the store answers, links carry, everybody wants to be there.
    fn heals(&mut self) {
        self.disk.heal();
        self.sources_answer();
        self.resume_store();
        for client in 0..self.clients.len() {
            self.clients[client].settings.token_ms = None;
            self.decide(client, true);
            self.block(client, false);
        }
        for process in 0..self.processes.len() {
            if !self.processes[process].up {
                self.restart_in(process, Duration::ZERO);
            }
        }
        self.advance(Duration::from_secs(12));
        if let Some(last) = self.processes.len().checked_sub(1).filter(|last| *last > 0) {
            self.gone.push(last);
            self.everybody_to(0);
            self.drain(last);
        }
        for client in 0..self.clients.len() {
            for frame in self.clients[client].release() {
                self.client_sends(client, frame);
            }
            if let Some(id) = self.clients[client].connection {
                self.read_on(id);
            }
        }
        self.everybody_comes();
    }

    fn everybody_comes(&mut self) {
        for client in 0..self.clients.len() {
            if self.clients[client].connection.is_none() {
                self.connect(client);
            }
        }
    }

    fn everybody_leaves(&mut self) {
        for client in 0..self.clients.len() {
            self.leave(client);
        }
        let idle = Duration::from_millis(self.settings.idle_ms);
        self.advance(idle + Duration::from_secs(30));
        for (process, server) in self.processes.iter().enumerate() {
            let pages = server.open_pages();
            assert!(
                server.is_idle(),
                "process {process} keeps rooms that nobody is in: {pages:?}"
            );
        }
    }

    fn everybody_sees_the_same(&mut self, page: usize) {
        let members: Vec<usize> = (0..self.clients.len())
            .filter(|client| self.clients[*client].settings.page == page)
            .collect();
        let id = self.pages[page].clone();
        let kept = self.disk.everything(&id);
        properties::equal("the store", &kept, &self.reference[page].encode());
        if members.is_empty() {
            return;
        }
        let shown: BTreeMap<ClientId, Arc<str>> = members
            .iter()
            .filter_map(|client| {
                let client = &self.clients[*client];
                Some((client.id(), client.presence.shows()?.clone()))
            })
            .collect();
        let live = self.processes[0].live(page).expect("a room with members is open");
        assert!(live.room().is_settled(), "the room of {id} still holds something");
        assert!(
            !live.owes_something(),
            "somebody in the room of {id} waits for ever"
        );
        assert_eq!(
            live.room().member_count(),
            members.len(),
            "everybody is in the room of {id}, once"
        );
        let known: BTreeMap<ClientId, Arc<str>> = live
            .room()
            .awareness()
            .entries()
            .filter_map(|(change, _)| Some((change.client, change.state?)))
            .collect();
        assert_eq!(known, shown, "the room of {id} lists who is here");
        let document = live.room().document().encode().expect("a document that works");
        properties::equal("the room", &document, &kept);
        for client in members {
            self.sees(client, &document, &shown);
        }
    }

    fn sees(&self, client: usize, document: &Bytes, shown: &BTreeMap<ClientId, Arc<str>>) {
        let client = &self.clients[client];
        let name = client.id().to_string();
        assert!(
            !client.is_waiting(),
            "client {name} waits for something that never came"
        );
        properties::shows(&name, &client.replica, document);
        assert_eq!(client.presence.states(), shown, "client {name} sees who is here");
        let wrote = client.replica.state_vector().get(client.id());
        if client.settings.repeats {
            assert_eq!(
                client.confirmed.first_gap(),
                wrote,
                "client {name} never hears that its edits are stored"
            );
        }
    }

    /// A room in which nothing happens is quiet: each client renews its presence twice, which everybody hears and passes on.
    fn nothing_happens(&mut self) {
        let before = self.trace.frames;
        self.advance(Duration::from_secs(30));
        let (frames, clients) = (self.trace.frames - before, self.clients.len());
        let expected = 3 * clients * (2 * clients + 2);
        assert!(
            frames <= expected,
            "{frames} frames pass between {clients} clients while nothing happens"
        );
    }

    /// Rooms have retired; what is in the store is all there is, and readable.
    fn nothing_is_left(&mut self) {
        for page in 0..self.pages.len() {
            let id = self.pages[page].clone();
            let Ok(Some(stored)) = self.disk.load(&id) else {
                continue;
            };
            let kept = self.disk.everything(&id);
            let was_opened = self.clients.iter().any(|client| client.settings.page == page);
            if was_opened && self.settings.processes == 1 {
                assert_eq!(
                    stored.log.len(),
                    0,
                    "a room that retires leaves an exact snapshot of {id}"
                );
                let snapshot = self.disk.snapshot(&id).expect("a snapshot");
                let mut document = Document::load(Limits::default(), [kept.clone()]).expect("what was kept");
                let expected = properties::content(&mut document);
                properties::same("the readable snapshot", snapshot.content, expected);
            }
            let mut opened = open_document(Limits::default(), stored.snapshot, stored.log)
                .expect("a page that can be opened");
            let whole = opened.encode().expect("a document that works");
            properties::equal("the stored page", &whole, &kept);
        }
    }
}
