//! Who is seen by whom, told with clocks as clients count them.

use proptest::prelude::*;

use super::*;
use crate::encoding::Write;

const ALICE: ClientId = ClientId(11);
const BOB: ClientId = ClientId(22);

struct Room {
    awareness: Awareness<u32>,
    start: Instant,
    /// What a Yjs client that heard everything knows: clock, and whether the state is present.
    peer: BTreeMap<ClientId, (u32, Option<Arc<str>>)>,
}

impl Room {
    fn new() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "some moment to count from; no test depends on which"
        )]
        let start = Instant::now();
        Self {
            awareness: Awareness::new(AwarenessLimits::default()),
            start,
            peer: BTreeMap::new(),
        }
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    fn say(
        &mut self,
        seconds: f64,
        owner: u32,
        client: ClientId,
        clock: u32,
        state: &str,
    ) -> AwarenessOutcome {
        let state = (state != "null").then(|| Arc::from(state));
        let update = encode_changes(&[AwarenessChange { client, clock, state }]);
        let now = self.at(seconds);
        let outcome = self.awareness.apply(now, owner, &update, |_, _| false).unwrap();
        self.hear(&outcome.changed);
        outcome
    }

    /// As `applyAwarenessUpdate` of y-protocols does. Every change must be taken, or be known.
    fn hear(&mut self, changes: &[AwarenessChange]) {
        for change in changes {
            let known = self.peer.get(&change.client).cloned().unwrap_or((0, None));
            let taken = known.0 < change.clock
                || (known.0 == change.clock && change.state.is_none() && known.1.is_some());
            let is_known = known == (change.clock, change.state.clone());
            assert!(
                taken || is_known,
                "a peer that knows {known:?} would ignore {change:?}"
            );
            self.peer
                .insert(change.client, (change.clock, change.state.clone()));
        }
    }

    /// What somebody else is told who has just come, and a peer that was there hears by another way.
    fn hear_again(&mut self, changes: &[AwarenessChange]) {
        for change in changes {
            if self
                .peer
                .get(&change.client)
                .is_none_or(|known| known.0 < change.clock)
            {
                self.hear(std::slice::from_ref(change));
            }
        }
    }

    fn come(&mut self, owner: u32) -> Introduction<u32> {
        let now = self.at(0.0);
        self.awareness.introduce(now, owner)
    }

    fn expire(&mut self, seconds: f64) -> usize {
        let now = self.at(seconds);
        let gone = self.awareness.expire(now);
        self.hear(&gone);
        gone.len()
    }

    fn sees(&self, client: ClientId) -> Option<&str> {
        self.peer.get(&client).and_then(|(_, state)| state.as_deref())
    }
}

#[test]
fn a_first_state_at_clock_zero_reaches_the_others() {
    let mut room = Room::new();
    assert_eq!(room.say(0.0, 1, ALICE, 0, r#"{"name":"a"}"#).changed.len(), 1);
    assert_eq!(room.sees(ALICE), Some(r#"{"name":"a"}"#));
}

#[test]
fn a_clean_leave_withdraws_exactly_the_owners_states_at_once() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 0, "{}");
    room.say(0.0, 2, BOB, 0, "{}");
    let gone = room.awareness.leave(room.at(1.0), 1);
    room.hear(&gone);
    assert_eq!((room.sees(ALICE), room.sees(BOB)), (None, Some("{}")));
}

#[test]
fn a_quick_reconnect_does_not_flicker() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 7, "{}");
    room.awareness.lost(room.at(1.0), 1);
    assert_eq!(room.expire(3.9), 0);
    room.come(2);
    assert_eq!(room.say(3.9, 2, ALICE, 8, "{}").changed.len(), 1);
    assert_eq!(room.expire(4.1), 0);
    assert_eq!(room.sees(ALICE), Some("{}"));
}

#[test]
fn a_broken_connection_is_withdrawn_after_the_grace_and_back_at_once() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 7, "{}");
    room.awareness.lost(room.at(1.0), 1);
    assert_eq!(room.awareness.next_deadline(), Some(room.at(4.0)));
    assert_eq!(room.expire(4.0), 1);
    assert_eq!(room.sees(ALICE), None);
    // The same clock as before (it has heard itself with 8): the client does not know that it was withdrawn.
    assert_eq!(room.say(9.0, 2, ALICE, 8, "{}").changed.len(), 1);
    assert_eq!(room.sees(ALICE), Some("{}"));
    // Its next clock is no higher than what was sent out, when it has not heard that yet.
    assert_eq!(room.say(10.0, 2, ALICE, 9, r#"{"x":1}"#).changed.len(), 1);
    assert_eq!(room.sees(ALICE), Some(r#"{"x":1}"#));
}

#[test]
fn who_broke_off_before_hearing_its_clock_is_asked_for_a_later_one() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 1, "{}");
    room.awareness.lost(room.at(1.0), 1);
    assert_eq!(room.expire(4.0), 1);
    let back = room.say(9.0, 2, ALICE, 1, "{}");
    assert_eq!((back.changed, back.overtaken), (vec![], vec![gone(ALICE, 2)]));
    // As `applyAwarenessUpdate` of y-protocols answers to being declared gone.
    assert_eq!(room.say(9.1, 2, ALICE, 3, "{}").changed.len(), 1);
    assert_eq!(room.sees(ALICE), Some("{}"));
}

#[test]
fn whose_state_ran_out_goes_on_counting_from_where_it_was() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 1, "{}");
    assert_eq!(room.expire(31.0), 1);
    assert_eq!(room.say(31.1, 1, ALICE, 2, "{}").changed.len(), 1);
    assert_eq!(room.sees(ALICE), Some("{}"));
}

#[test]
fn who_counts_anew_is_asked_for_a_later_clock() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 57, "{}");
    room.awareness.lost(room.at(1.0), 1);
    room.come(2);
    let back = room.say(1.1, 2, ALICE, 1, r#"{"new":1}"#);
    assert_eq!((back.changed, back.overtaken), (vec![], vec![gone(ALICE, 58)]));
    assert_eq!(room.say(1.2, 2, ALICE, 59, r#"{"new":1}"#).changed.len(), 1);
    assert_eq!(room.sees(ALICE), Some(r#"{"new":1}"#));
}

#[test]
fn a_client_that_says_back_its_own_state_starts_no_exchange_without_end() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 7, "{}");
    room.awareness.lost(room.at(1.0), 1);
    room.come(2);
    let back = room.say(2.0, 2, ALICE, 8, "{}").changed;
    assert_eq!(back[0].clock, 9);
    assert_eq!(room.say(2.1, 2, ALICE, 9, "{}").changed, []);
    // A renewal has to reach the others although its clock is one that some of them know.
    room.come(2);
    let renewed = room.say(15.0, 2, ALICE, 10, "{}").changed;
    assert_eq!(renewed[0].clock, 11);
    assert_eq!(room.say(15.1, 2, ALICE, 11, "{}").changed, []);
    assert_eq!(room.expire(44.0), 0);
}

#[test]
fn who_comes_back_is_told_again_who_is_here() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 7, "{}");
    // Bob forgets the state when he goes, and keeps the clock.
    room.peer.insert(ALICE, (7, None));
    let told = room.come(2).present;
    room.hear(&told);
    assert_eq!(room.sees(ALICE), Some("{}"));
    room.say(1.0, 1, ALICE, 8, r#"{"x":1}"#);
    assert_eq!(room.sees(ALICE), Some(r#"{"x":1}"#));
}

#[test]
fn echoes_of_others_change_nothing() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 3, "{}");
    room.say(0.0, 2, BOB, 3, "{}");
    let echo = room.say(1.0, 2, ALICE, 3, "{}");
    assert_eq!((echo.changed.len(), echo.refused_foreign), (0, 1));
    // Bob's program times Alice out and says so.
    assert_eq!(room.say(1.0, 2, ALICE, 3, "null").refused_foreign, 1);
    // Nor does an echo that arrives late bring back who has left.
    let gone = room.awareness.leave(room.at(2.0), 1);
    room.hear(&gone);
    assert_eq!(room.say(2.0, 2, ALICE, 3, "{}").refused_foreign, 1);
    assert_eq!(room.sees(ALICE), None);
}

#[test]
fn who_comes_back_may_first_say_that_it_has_forgotten_everybody() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 3, "{}");
    room.say(0.0, 2, BOB, 3, "{}");
    room.awareness.lost(room.at(1.0), 1);
    room.come(3);
    assert_eq!(room.say(1.1, 3, BOB, 5, "null").refused_foreign, 1);
    // The same clock as before: it has heard itself with 4.
    assert_eq!(room.say(1.1, 3, ALICE, 4, "{}").refused_foreign, 0);
    assert_eq!(room.expire(4.0), 0, "the broken connection takes nothing with it");
    assert_eq!(room.sees(ALICE), Some("{}"));
}

#[test]
fn somebody_who_shows_nothing_takes_over_nobody_by_saying_back_what_it_hears() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 3, "{}");
    // Another tab of the same user comes, is told who is here, and says it back.
    let introduced = room.come(2).present;
    let now = room.at(1.0);
    let outcome = room
        .awareness
        .apply(now, 2, &encode_changes(&introduced), |_, _| true)
        .unwrap();
    assert_eq!((outcome.changed.len(), outcome.refused_foreign), (0, 1));
    let renewed = room.say(15.0, 1, ALICE, 9, "{}");
    let outcome = room
        .awareness
        .apply(now, 2, &encode_changes(&renewed.changed), |_, _| true)
        .unwrap();
    assert_eq!((outcome.changed.len(), outcome.refused_foreign), (0, 1));
    // Nor does it keep her here when she has gone.
    let gone = room.awareness.leave(room.at(16.0), 1);
    room.hear(&gone);
    let outcome = room
        .awareness
        .apply(now, 2, &encode_changes(&renewed.changed), |_, _| true)
        .unwrap();
    assert_eq!((outcome.changed.len(), outcome.refused_foreign), (0, 1));
    assert!(room.awareness.is_empty());
}

#[test]
fn the_same_user_takes_its_client_over_from_a_connection_not_yet_known_to_be_dead() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 3, "{}");
    let update = encode_changes(&[AwarenessChange {
        client: ALICE,
        clock: 3,
        state: Some(Arc::from("{}")),
    }]);
    room.come(2);
    let outcome = room
        .awareness
        .apply(room.at(1.0), 2, &update, |_, _| true)
        .unwrap();
    assert_eq!(outcome.changed.len(), 1);
    assert!(room.awareness.leave(room.at(2.0), 1).is_empty());
    assert_eq!(room.awareness.len(), 1);
}

#[test]
fn silence_withdraws_and_renewal_does_not() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 1, "{}");
    room.say(0.0, 2, BOB, 1, "{}");
    room.say(15.0, 1, ALICE, 2, "{}");
    assert_eq!(room.expire(30.0), 1);
    assert_eq!((room.sees(ALICE), room.sees(BOB)), (Some("{}"), None));
    assert_eq!(room.awareness.next_deadline(), Some(room.at(45.0)));
}

#[test]
fn null_clears_and_old_clocks_are_ignored() {
    let mut room = Room::new();
    room.say(0.0, 1, ALICE, 5, "{}");
    assert!(room.say(0.0, 1, ALICE, 4, r#"{"old":1}"#).changed.is_empty());
    assert_eq!(room.say(0.0, 1, ALICE, 5, "null").changed.len(), 1);
    assert_eq!(room.sees(ALICE), None);
    assert!(room.awareness.is_empty());
}

#[test]
fn limits_refuse_single_entries() {
    let mut room = Room::new();
    let large = format!("\"{}\"", "x".repeat(64 << 10));
    assert_eq!(room.say(0.0, 1, ALICE, 1, &large).refused_too_large, 1);
    for client in 0..100 {
        assert_eq!(room.say(0.0, 1, ClientId(client), 1, "{}").changed.len(), 1);
    }
    assert_eq!(room.say(0.0, 1, ClientId(100), 1, "{}").refused_too_large, 1);
}

#[test]
fn tombstones_are_bounded() {
    let mut room = Room::new();
    for client in 0..3000 {
        room.say(0.0, 1, ClientId(client), 1, "{}");
        room.say(0.0, 1, ClientId(client), 2, "null");
    }
    assert_eq!(room.awareness.withdrawn.len(), 1024);
}

#[test]
fn what_is_not_an_awareness_update_changes_nothing() {
    let mut room = Room::new();
    let now = room.at(0.0);
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let mut nested = vec![1, 11, 1];
    nested.put_string(&deep);
    for bytes in [
        &[][..],
        &[2, 11, 1, 2, b'{', b'}'],
        &[1, 11, 1, 2, b'{', b'}', 0],
        &[1, 11, 1, 1, b'{'],
        &[1, 11, 1, 1, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0x01],
        &nested,
    ] {
        assert!(
            room.awareness.apply(now, 1, bytes, |_, _| true).is_err(),
            "{bytes:?}"
        );
    }
    assert!(room.awareness.is_empty());
}

proptest! {
    /// Whatever clients do, everything sent out is taken by a peer, a peer that heard all knows the same, and no client
    /// hears of itself what it has replaced.
    #[test]
    fn a_peer_that_heard_everything_knows_everything(
        steps in proptest::collection::vec((0usize..4, 0u8..9, any::<bool>(), 0.0..40.0f64), 1..80)
    ) {
        struct Client { clock: u32, connection: u32 }
        let mut room = Room::new();
        let mut time = 0.0;
        let mut connections = 4;
        let mut clients: Vec<_> = (0..4).map(|connection| Client { clock: 0, connection }).collect();
        for (index, action, hears, wait) in steps {
            let id = ClientId(index as u64);
            let client = &mut clients[index];
            let mut changed = Vec::new();
            match action {
                0..=3 => {
                    client.clock += 1;
                    changed = room.say(time, client.connection, id, client.clock, r#"{"a":1}"#).changed;
                }
                4 => {
                    client.clock += 1;
                    changed = room.say(time, client.connection, id, client.clock, "null").changed;
                }
                5 | 6 => {
                    let now = room.at(time);
                    // What was said of it on the way to a broken connection is lost; that it is gone, it contradicts with
                    // the next clock.
                    let told = room.peer.get(&id).map_or(0, |(clock, state)| clock + u32::from(state.is_none()));
                    if action == 5 || hears {
                        client.clock = client.clock.max(told);
                    }
                    if action == 5 {
                        let gone = room.awareness.leave(now, client.connection);
                        room.hear(&gone);
                    } else {
                        room.awareness.lost(now, client.connection);
                    }
                    client.connection = connections;
                    connections += 1;
                    let now = room.at(time);
                    let introduction = room.awareness.introduce(now, client.connection);
                    room.hear_again(&introduction.present);
                    for (owner, change) in introduction.raised {
                        let owner = clients.iter_mut().find(|client| client.connection == owner);
                        if let Some(client) = owner {
                            client.clock = client.clock.max(change.clock);
                        }
                    }
                    let client = &mut clients[index];
                    let outcome = room.say(time, client.connection, id, client.clock, r#"{"a":1}"#);
                    changed = outcome.changed;
                    for gone in outcome.overtaken {
                        client.clock = client.clock.max(gone.clock + 1);
                        changed = room.say(time, client.connection, id, client.clock, r#"{"a":1}"#).changed;
                        prop_assert!(!changed.is_empty(), "{gone:?} was no reason not to show it");
                    }
                    prop_assert!(room.sees(id).is_some(), "who comes is seen");
                }
                _ => {
                    time += wait;
                    room.expire(time);
                }
            }
            let client = &mut clients[index];
            for change in changed.iter().filter(|change| change.state.is_some()) {
                prop_assert!(change.clock <= client.clock + 1, "{change:?} would replace what the client shows");
                if hears {
                    client.clock = client.clock.max(change.clock);
                }
            }
            let mut present: Vec<_> = room.awareness.entries().map(|(change, _)| change.client).collect();
            let mut seen: Vec<_> =
                room.peer.iter().filter(|(_, (_, state))| state.is_some()).map(|(&client, _)| client).collect();
            present.sort_unstable();
            seen.sort_unstable();
            prop_assert_eq!(present, seen);
        }
    }

    #[test]
    fn random_bytes_are_refused_or_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut room = Room::new();
        let now = room.at(0.0);
        if let Ok(outcome) = room.awareness.apply(now, 1, &bytes, |_, _| true) {
            room.hear(&outcome.changed);
        }
        prop_assert!(read_entries(&room.awareness.encode_all()).is_ok());
    }
}

/// The server shows a state for somebody whose program knows no awareness: peers take each change and each renewal, also those that
/// come back, nobody takes the client over, and it is gone when the server says so.
#[test]
fn what_the_server_shows_is_renewed_and_nobody_elses() {
    const SERVER: u32 = 0;
    let mut room = Room::new();
    let show = |room: &mut Room, seconds: f64, state: Option<&str>| {
        let (now, state) = (room.at(seconds), state.map(Arc::from));
        let change = room.awareness.show(now, SERVER, ALICE, state.as_ref());
        room.hear(change.as_slice());
        change
    };
    assert!(show(&mut room, 0.0, Some("\"a\"")).is_some());
    assert_eq!(show(&mut room, 1.0, Some("\"a\"")), None, "nothing new");
    assert!(show(&mut room, 2.0, Some("\"b\"")).is_some());
    for second in [17.0, 32.0, 47.0] {
        let renewed = room.awareness.expire(room.at(second));
        assert_eq!(renewed.len(), 1, "at {second}");
        assert_eq!(renewed[0].state.as_deref(), Some("\"b\""));
        room.hear(&renewed);
    }
    for comer in 5..8 {
        let clock = room.peer[&ALICE].0;
        let introduction = room.awareness.introduce(room.at(48.0), comer);
        assert!(introduction.raised.is_empty(), "there is nobody to be told");
        assert!(
            introduction.present[0].clock > clock,
            "whoever comes back takes it"
        );
        room.hear_again(&introduction.present);
    }
    let clock = room.peer[&ALICE].0;
    let claimed = room.say(49.0, 9, ALICE, clock + 10, "\"mine\"");
    assert_eq!((claimed.refused_foreign, claimed.changed.len()), (1, 0));
    assert!(show(&mut room, 50.0, None).is_some());
    assert_eq!(room.peer[&ALICE].1, None);
    assert_eq!(show(&mut room, 51.0, None), None);
    // Whoever takes the client while nothing is shown loses it again.
    let clock = room.peer[&ALICE].0;
    room.say(52.0, 9, ALICE, clock + 1, "\"mine\"");
    assert_eq!(room.awareness.owner(ALICE), Some(9));
    assert!(show(&mut room, 53.0, Some("\"c\"")).is_some());
    assert_eq!(room.awareness.owner(ALICE), Some(SERVER));
    room.awareness.leave(room.at(54.0), 9);
    let gone = room.awareness.leave(room.at(55.0), SERVER);
    assert_eq!(gone.len(), 1);
    room.hear(&gone);
    assert!(room.awareness.is_empty());
}
