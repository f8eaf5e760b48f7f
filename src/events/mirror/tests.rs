//! One page with programs of both kinds, and readers that answer at once: a place before item n is the number n.

use std::{collections::BTreeSet, time::Duration};

use crdt::{Offset, Place};
use serde_json::{Value, json, value::to_raw_value};

use super::*;
use crate::events::{people::tests::person, viewers::Letters, watchers::tests::both};

struct Stage {
    mirror: Mirror,
    cursors: Cursors,
    typing: Typing,
    now: Instant,
    /// Readers cannot read the page.
    is_unreadable: bool,
    cost: Cost,
    /// States that are shown.
    states: BTreeMap<ClientId, Value>,
    /// When states were told, with their bytes, and when was asked about how many cursors.
    told: Vec<(Instant, usize)>,
    asked: Vec<(Instant, usize)>,
}

fn stage() -> Stage {
    let mut stage = Stage {
        mirror: Mirror::new(RandomState::new()),
        cursors: Cursors::default(),
        typing: Typing::default(),
        now: crate::events::ticker::now(),
        is_unreadable: false,
        cost: Cost {
            time: Duration::ZERO,
            bytes: 0,
        },
        states: BTreeMap::new(),
        told: Vec::new(),
        asked: Vec::new(),
    };
    stage.link(true);
    stage
}

fn at(clock: u32) -> Value {
    json!({ "type": null, "tname": "t", "item": { "client": 1, "clock": clock }, "assoc": 0 })
}

fn range(anchor: u32, head: u32) -> Value {
    json!({ "anchor": at(anchor), "head": at(head) })
}

fn numbers(anchor: u32, head: u32) -> Value {
    json!({ "anchor": anchor, "head": head })
}

/// The other form of a place; nothing is behind number 1000.
fn other(place: &Place) -> Option<Place> {
    match place {
        Place::Offset(offset) => {
            let position = serde_json::from_value(at(offset.at)).expect("a position");
            (offset.at < 1000).then_some(Place::Position(position))
        }
        Place::Position(position) => {
            let position = serde_json::to_value(position).expect("JSON");
            let at = u32::try_from(position["item"]["clock"].as_u64().expect("a clock")).expect("a number");
            (at < 1000).then_some(Place::Offset(Offset { field: None, at }))
        }
    }
}

impl Stage {
    fn link(&mut self, is_linked: bool) -> bool {
        self.mirror.link(is_linked, (&mut self.cursors, &mut self.typing))
    }

    fn points(&mut self, socket: u64, cursor: Option<&Value>) {
        let pointer = cursor.map(|cursor| states::pointer(&to_raw_value(cursor).expect("JSON").into()));
        let person = Arc::new(person(&format!("old{socket}"), "s"));
        self.mirror.point(SocketId(socket), &person, pointer);
    }

    fn types(&mut self, socket: u64, is_typing: bool) {
        let person = Arc::new(person(&format!("old{socket}"), "s"));
        self.mirror.types(SocketId(socket), &person, is_typing);
    }

    /// A client of a seat shows a state.
    fn shows_at(&mut self, seat: u64, client: u64, state: Option<&Value>) {
        let change = state.map(|state| {
            let state = state.to_string();
            let seen = states::read(&state);
            (seat, state.into(), seen)
        });
        let owner = |seat| {
            Some(Owner {
                person: Arc::new(person(&format!("yjs{seat}"), "s")),
                connection: client.to_string().into(),
                color: "#000".into(),
                socket: None,
            })
        };
        let told = (&mut self.cursors, &mut self.typing);
        self.mirror.saw(self.now, ClientId(client), change, owner, told);
    }

    fn shows(&mut self, client: u64, state: &Value) {
        self.shows_at(client, client, Some(state));
    }

    /// Does what is due.
    fn settle(&mut self) {
        loop {
            let Turn { states, question } = self.mirror.turn(self.now);
            if !states.is_empty() {
                let bytes = states
                    .values()
                    .map(|state| state.as_ref().map_or(0, |state| state.len()) + 16);
                self.told.push((self.now, bytes.sum()));
            }
            for (client, state) in states {
                match state {
                    Some(state) => self
                        .states
                        .insert(client, serde_json::from_str(&state).expect("JSON")),
                    None => self.states.remove(&client),
                };
            }
            let Some(question) = question else { return };
            self.asked.push((self.now, question.asked.len()));
            let places = question.places().iter().map(other).collect();
            let answer = (!self.is_unreadable).then_some((places, self.cost));
            self.mirror
                .answered(self.now, question, answer, &mut self.cursors);
        }
    }

    fn passes(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now += Duration::from_millis(1);
            self.settle();
        }
    }

    /// What a listener hears of cursors now.
    fn hears(&mut self) -> Vec<Value> {
        let mut told = Letters::new();
        self.cursors.tell(self.now, "p", &both(), &mut told);
        let told = told.into_iter().filter(|(to, _)| to.0 == 0);
        told.map(|(_, text)| {
            let (name, body): (String, Value) = serde_json::from_slice(&text[2..]).expect("an event");
            match name.as_str() {
                "cursor_moved" => body["cursor"].clone(),
                _ => json!(name),
            }
        })
        .collect()
    }

    fn shown(&self, socket: u64) -> Option<&Value> {
        self.states.get(&self.mirror.client_of(SocketId(socket)))
    }
}

#[test]
fn selections_become_numbers_and_numbers_selections() {
    let mut stage = stage();
    stage.points(7, Some(&numbers(1, 2)));
    stage.shows(1, &json!({ "cursor": range(3, 4) }));
    stage.settle();
    assert_eq!(stage.shown(7).expect("a state")["cursor"], range(1, 2));
    assert_eq!(stage.hears(), [numbers(3, 4)]);
    assert_eq!(stage.asked.len(), 1, "both in one question");
    stage.passes(100);
    // A renewal, and what is no place in a text, asks nothing.
    stage.shows(1, &json!({ "cursor": range(3, 4) }));
    stage.shows(2, &json!({ "cursor": "here" }));
    stage.points(7, Some(&json!({ "x": 1 })));
    stage.types(7, true);
    stage.settle();
    assert_eq!(stage.hears(), [json!("here")]);
    let state = stage.shown(7).expect("a state");
    assert_eq!(
        (&state["cursor"], &state["typing"]),
        (&json!({ "x": 1 }), &json!(true))
    );
    assert_eq!(stage.asked.len(), 1);
    // When the page is edited, clients are asked about again, and sockets are where they were.
    stage.points(7, Some(&numbers(1, 2)));
    stage.passes(100);
    assert_eq!(stage.asked.pop().map(|(_, count)| count), Some(1));
    stage.mirror.edited();
    stage.settle();
    assert_eq!(stage.asked.pop().map(|(_, count)| count), Some(1), "client 1");
    stage.points(7, None);
    stage.types(7, false);
    stage.passes(100);
    assert_eq!(stage.shown(7), None);
    stage.shows_at(1, 1, None);
    stage.shows_at(2, 2, None);
    assert_eq!(stage.hears(), [json!("cursor_left"), json!("cursor_left")]);
    assert!(stage.mirror.is_idle() && stage.mirror.seats.is_empty());
    assert_eq!(stage.mirror.next_deadline(), None);
}

#[test]
fn what_cannot_be_found_is_not_shown_and_costs_no_more_than_a_question() {
    let mut stage = stage();
    stage.shows(1, &json!({ "cursor": range(1, 1) }));
    stage.settle();
    assert_eq!(stage.hears(), [numbers(1, 1)]);
    stage.is_unreadable = true;
    stage.passes(100);
    stage.points(7, Some(&numbers(1, 2)));
    stage.types(7, true);
    stage.shows(1, &json!({ "cursor": range(2, 2) }));
    stage.settle();
    assert_eq!(stage.hears(), [json!("cursor_left")]);
    stage.passes(1);
    let state = stage.shown(7).expect("typing is shown nevertheless");
    assert_eq!((&state["typing"], state.get("cursor")), (&json!(true), None));
    let asked = stage.asked.len();
    for _ in 0..19 {
        stage.points(7, Some(&numbers(2, 2)));
        stage.passes(100);
    }
    assert_eq!(stage.asked.len(), asked, "there is a pause");
    stage.is_unreadable = false;
    stage.passes(100);
    assert_eq!(stage.asked.len(), asked + 1);
    assert_eq!(stage.shown(7).expect("a state")["cursor"], range(2, 2));
    stage.points(7, Some(&numbers(1, 2000)));
    stage.passes(100);
    assert_eq!(
        stage.shown(7).expect("a state").get("cursor"),
        None,
        "the page is shorter"
    );
}

#[test]
fn a_large_page_and_a_slow_answer_are_asked_less_often() {
    for (time, bytes, pause) in [(0, 0, 50), (0, 8 << 20, 2000), (30, 0, 120), (30, 1 << 20, 250)] {
        let mut stage = stage();
        stage.cost = Cost {
            time: Duration::from_millis(time),
            bytes,
        };
        for anchor in 0..500 {
            stage.points(7, Some(&numbers(anchor, anchor)));
            stage.passes(10);
        }
        for two in stage.asked.windows(2) {
            let between = two[1].0 - two[0].0;
            assert!(between >= Duration::from_millis(pause), "{between:?} of {pause}");
        }
        assert!(
            stage.asked.len() > 5000 / (pause as usize + 11),
            "{}",
            stage.asked.len()
        );
    }
}

#[test]
fn typing_is_of_who_changes_its_state_and_no_renewal() {
    let mut stage = stage();
    stage.shows(1, &json!({ "typing": true, "n": 1 }));
    assert_eq!(stage.typing.take_changed(), [(Source::Client(ClientId(1)), true)]);
    let tell = |stage: &mut Stage, millis: u64| {
        stage.passes(millis);
        stage
            .typing
            .tell(stage.now, "p", 20, &both(), &mut Letters::new());
        stage.typing.take_changed()
    };
    assert_eq!(tell(&mut stage, 4000), []);
    stage.shows(1, &json!({ "typing": true, "n": 2 }));
    assert_eq!(tell(&mut stage, 4000), [], "it goes on");
    stage.shows(1, &json!({ "typing": true, "n": 2 }));
    assert_eq!(tell(&mut stage, 1000), [(Source::Client(ClientId(1)), false)]);
    stage.shows(1, &json!({ "typing": true, "n": 3 }));
    stage.shows(1, &json!({ "n": 3 }));
    stage.shows(1, &json!({ "typing": true, "n": 4 }));
    stage.shows_at(1, 1, None);
    assert_eq!(tell(&mut stage, 0), [(Source::Client(ClientId(1)), false)]);
}

#[test]
fn nothing_is_done_where_one_kind_is_alone_and_all_is_shown_when_it_is_not() {
    let mut stage = stage();
    assert!(stage.link(false) && !stage.link(false));
    stage.points(7, Some(&numbers(1, 2)));
    stage.types(8, true);
    stage.shows(1, &json!({ "cursor": range(3, 4), "typing": true }));
    stage.settle();
    assert_eq!((stage.asked.len(), stage.told.len()), (0, 0));
    assert_eq!((stage.hears(), stage.mirror.clients.len()), (vec![], 0));
    stage.link(true);
    stage.passes(100);
    assert_eq!(stage.shown(7).expect("a state")["cursor"], range(1, 2));
    assert_eq!(stage.shown(8).expect("a state")["typing"], true);
    stage.shows(1, &json!({ "cursor": range(3, 4) }));
    stage.settle();
    assert_eq!(stage.hears(), [numbers(3, 4)]);
    // The room is a new one: what was shown there is shown again, and clients are those of the new one.
    stage.states.clear();
    stage.mirror.begin_anew((&mut stage.cursors, &mut stage.typing));
    stage.passes(100);
    assert_eq!(stage.states.len(), 2);
    assert_eq!(stage.hears(), [json!("cursor_left")]);
    stage.link(false);
    stage.points(7, None);
    stage.mirror.left(SocketId(8));
    assert!(stage.mirror.is_idle(), "nothing is left of who has shown nothing");
}

#[test]
fn cursors_are_in_the_member_in_which_clients_have_theirs() {
    let mut stage = stage();
    stage.points(7, Some(&numbers(1, 2)));
    stage.settle();
    assert_eq!(stage.shown(7).expect("a state").get("selection"), None);
    stage.shows(1, &json!({ "selection": range(3, 4) }));
    stage.passes(100);
    assert_eq!(stage.hears(), [numbers(3, 4)]);
    let state = stage.shown(7).expect("a state");
    assert_eq!(
        (&state["selection"], &state["cursor"]),
        (&range(1, 2), &range(1, 2))
    );
}

/// One seat that shows, changes and withdraws as many clients as it can costs no more places than it has.
#[test]
fn a_seat_that_floods_fills_nothing() {
    let mut stage = stage();
    for round in 0..100_u64 {
        for client in 0..100 {
            stage.shows_at(
                1,
                1000 * round + client,
                Some(&json!({ "cursor": range(1, 2), "typing": true })),
            );
        }
        assert!(stage.mirror.clients.len() <= MAX_OF_SEAT);
        stage.passes(1);
        for client in 0..100 {
            stage.shows_at(1, 1000 * round + client, None);
        }
        stage.hears();
    }
    assert!(stage.mirror.is_idle() && stage.mirror.seats.is_empty());
    assert!(stage.mirror.unresolved.is_empty());
    for socket in 0..2 * MAX_SHOWN as u64 {
        stage.points(socket, Some(&json!(1)));
    }
    assert_eq!(stage.mirror.sockets.len(), MAX_SHOWN);
    let ids: BTreeSet<_> = (0..10_000)
        .map(|socket| stage.mirror.client_of(SocketId(socket)))
        .collect();
    assert_eq!(ids.len(), 10_000);
    assert!(ids.iter().all(|id| (1 << 52..1 << 53).contains(&id.0)));
}

/// 250 programs of each kind whose cursors move all the time, then rest: what clients hear of sockets, sockets of clients, and what readers
/// are asked in any second.
#[test]
fn a_crowd_of_both_kinds_stays_within_the_rates() {
    let mut stage = stage();
    let mut heard: [Vec<(usize, usize)>; 2] = [vec![(0, 0); 8000], vec![(0, 0); 8000]];
    let mut places = BTreeMap::new();
    let begin = stage.now;
    for millis in 0..8000_u32 {
        let place = millis / 33;
        if millis < 4000 && millis % 33 == 0 {
            for number in 0..250 {
                stage.points(number, Some(&numbers(place, place)));
                stage.shows(
                    number,
                    &json!({ "cursor": range(place, place), "user": { "name": "a name" } }),
                );
            }
        }
        stage.passes(1);
        let mut told = Letters::new();
        stage.cursors.tell(stage.now, "p", &both(), &mut told);
        for (to, text) in told {
            let (count, bytes) = &mut heard[to.0 as usize][millis as usize];
            (*count, *bytes) = (*count + 1, *bytes + text.len());
            let (_, body): (String, Value) = serde_json::from_slice(&text[2..]).expect("an event");
            for moved in body["cursors"].as_array().into_iter().flatten() {
                places.insert(moved["connectionId"].to_string(), moved["cursor"].clone());
            }
        }
    }
    let last = 3993 / 33;
    assert_eq!(places.len(), 250);
    assert!(places.values().all(|place| *place == numbers(last, last)));
    assert_eq!(stage.states.len(), 250);
    assert!(
        stage
            .states
            .values()
            .all(|state| state["cursor"] == range(last, last))
    );
    let in_a_second = |times: &[(Instant, usize)], from: u64| {
        let from = begin + Duration::from_millis(from);
        let within = times
            .iter()
            .filter(|(at, _)| (from..from + Duration::from_secs(1)).contains(at));
        within.fold((0, 0), |sum, (_, one)| (sum.0 + 1, sum.1 + one))
    };
    for from in 0..7000 {
        let (frames, bytes) = in_a_second(&stage.told, from);
        assert!(
            frames <= 20 && bytes < 64 * 1024,
            "{frames} frames of awareness, {bytes} bytes"
        );
        let (questions, _) = in_a_second(&stage.asked, from);
        assert!(questions <= 20, "{questions} questions");
        for (form, heard) in heard.iter().enumerate() {
            let second = &heard[from as usize..from as usize + 1000];
            let (frames, bytes) = second
                .iter()
                .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            assert!(
                bytes < 64 * 1024 && (form == 0 || frames <= 20),
                "{frames} frames, {bytes} bytes"
            );
        }
    }
    // Each has arrived soon after it has come to rest.
    let rest = begin + Duration::from_millis(6000);
    assert!(stage.told.iter().chain(&stage.asked).all(|(at, _)| *at < rest));
    assert!(
        heard
            .iter()
            .all(|heard| heard[6000..].iter().all(|(count, _)| *count == 0))
    );
}
