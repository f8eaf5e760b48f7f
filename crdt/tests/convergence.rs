//! Whatever way updates arrive, the document becomes what an ungated Yjs replica becomes.

#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use bytes::Bytes;
use pageroom_crdt::testing::{Random, Replica};
use pageroom_crdt::{Admission, ClientId, Document, Limits, StateVector, Update, merge};
use proptest::prelude::*;

fn parse(bytes: &Bytes) -> Update {
    Update::parse(bytes.clone(), &Limits::default()).unwrap()
}

/// Edits of several clients that hear of each other now and then, and what they all come to.
fn session(seed: u64, clients: u64, edits: usize) -> (Vec<Bytes>, Replica) {
    let mut random = Random::new(seed);
    let mut replicas: Vec<_> = (0..clients)
        .map(|client| Replica::new(ClientId(100 + client * 7)))
        .collect();
    let mut updates: Vec<Bytes> = Vec::new();
    let mut heard = vec![0; replicas.len()];
    for _ in 0..edits {
        let author = random.below(clients as u32) as usize;
        if random.below(3) == 0 {
            for update in &updates[heard[author]..] {
                replicas[author].apply(update);
            }
            heard[author] = updates.len();
        }
        let update = replicas[author].edit(&mut random);
        if update.as_ref() != [0, 0] {
            updates.push(update);
        }
    }
    let mut reference = Replica::new(ClientId(1));
    for update in &updates {
        reference.apply(update);
    }
    assert!(!reference.is_waiting());
    (updates, reference)
}

/// The same state, except for how structs are divided.
fn assert_same(document: &mut Document, reference: &Replica) {
    assert_eq!(*document.state_vector(), reference.state_vector());
    assert_size(document);
    let content = document.content().unwrap();
    assert_eq!(content.misplaced(), Ok(0));
    let found = content.json(None).unwrap().unwrap();
    assert_visible(&found, &reference.json());
    // A Yjs client that gets the encoded state sees the same.
    let mut client = Replica::new(ClientId(2));
    client.apply(&document.encode().unwrap());
    assert!(!client.is_waiting());
    assert_visible(&client.json(), &reference.json());
}

/// The size that is known without encoding is that of the state, but for the heads of the pieces that long content is kept in.
fn assert_size(document: &mut Document) {
    let known = document.encoded_size_estimate();
    let exact = document.encode().unwrap().len();
    assert!(known >= exact, "{known} of {exact}");
    assert!(known - exact <= exact / 512 * 40, "{known} of {exact}");
}

/// The same content. A root type whose last content is gone is only known by those who saw it.
fn assert_visible(found: &serde_json::Value, expected: &serde_json::Value) {
    for (field, value) in expected.as_object().unwrap() {
        if !value.is_null() {
            assert_eq!(&found[field], value, "{field}");
        }
    }
}

/// Offers updates in the order given, parking what is early; collects what is new.
fn feed(document: &mut Document, updates: &[Bytes]) -> Vec<Update> {
    let mut new = Vec::new();
    for update in updates {
        let admitted = match document.admit(parse(update)).unwrap() {
            Admission::New(update) => Some(update),
            Admission::Partly {
                new: update, early, ..
            } => {
                document.park(early).unwrap();
                Some(update)
            }
            Admission::Known => None,
            Admission::Early { update, .. } => {
                document.park(update).unwrap();
                None
            }
        };
        if let Some(update) = admitted {
            let clients: Vec<_> = update.ranges().map(|range| range.client).collect();
            new.push(update);
            new.extend(document.take_ready(clients.into_iter()).unwrap());
        }
    }
    assert_eq!(document.pending_bytes(), 0);
    new
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_order(seed: u64, clients in 1u64..5) {
        let (updates, reference) = session(seed, clients, 60);
        let mut document = Document::new(Limits::default());
        let new = feed(&mut document, &updates);
        // What is all new is passed on as received. Some deletes are known: of a value that lost to another.
        let changes = updates.iter().map(|update| (update, parse(update)));
        let changes: Vec<_> = changes.filter(|(_, received)| received.ranges().len() > 0).collect();
        let new: Vec<_> = new.into_iter().filter(|new| new.ranges().len() > 0).collect();
        prop_assert_eq!(new.len(), changes.len());
        for (new, (update, received)) in new.iter().zip(&changes) {
            prop_assert_eq!(new.ranges().collect::<Vec<_>>(), received.ranges().collect::<Vec<_>>());
            prop_assert!(new.bytes() == *update || received.has_deletes());
        }
        assert_same(&mut document, &reference);
    }

    #[test]
    fn in_any_order_and_more_than_once(seed: u64, clients in 1u64..5) {
        let (mut updates, reference) = session(seed, clients, 40);
        let mut random = Random::new(seed ^ 1);
        for _ in 0..updates.len() / 2 {
            updates.push(random.pick(&updates).clone());
        }
        random.shuffle(&mut updates);
        let mut document = Document::new(Limits::default());
        feed(&mut document, &updates);
        assert_same(&mut document, &reference);
    }

    #[test]
    fn what_is_new_is_exact(seed: u64, clients in 1u64..5) {
        // Overlapping parts: merged stretches of the history, and full states of replicas.
        let (updates, reference) = session(seed, clients, 40);
        let mut random = Random::new(seed ^ 2);
        let mut document = Document::new(Limits::default());
        let mut relayed = Replica::new(ClientId(3));
        let mut replica = Replica::new(ClientId(4));
        let mut stored = Vec::new();
        let mut offered = Vec::new();
        for update in &updates {
            replica.apply(update);
            offered.push(match random.below(4) {
                0 => replica.encode(),
                1 => replica.diff(document.state_vector()),
                _ => replica.diff(&trim_randomly(&mut random, document.state_vector())),
            });
            if let Some(last) = offered.last() {
                match document.admit(parse(last)).unwrap() {
                    Admission::New(new) => {
                        relayed.apply(new.bytes());
                        prop_assert!(!relayed.is_waiting());
                        stored.push(new.bytes().clone());
                    }
                    Admission::Known => {}
                    Admission::Early { .. } | Admission::Partly { .. } => prop_assert!(false, "a state depends on nothing"),
                }
            }
        }
        // Twice the same is nothing new.
        match document.admit(parse(&replica.encode())).unwrap() {
            Admission::New(new) => prop_assert!(!new.has_deletes() || new.ranges().len() == 0),
            Admission::Known => {}
            Admission::Early { .. } | Admission::Partly { .. } => prop_assert!(false),
        }
        prop_assert!(matches!(document.admit(parse(&replica.encode())).unwrap(), Admission::Known));
        assert_same(&mut document, &reference);
        assert_visible(&relayed.json(), &reference.json());
        let mut loaded = Document::load(Limits::default(), stored).unwrap();
        assert_same(&mut loaded, &reference);
    }

    /// One after the other, with what was typed joined and with what was deleted left out.
    #[test]
    fn the_size_is_known_after_every_edit(seed: u64, clients in 1u64..4, edits in 1usize..300, keeps_deleted: bool) {
        let (updates, _) = session(seed, clients, edits);
        let mut document = Document::new(Limits { keeps_deleted, ..Limits::default() });
        for update in &updates {
            feed(&mut document, std::slice::from_ref(update));
            assert_size(&mut document);
        }
        document.sleep().unwrap();
        prop_assert_eq!(document.encoded_size_estimate(), document.encode().unwrap().len());
    }

    #[test]
    fn merged_is_the_same_as_in_turn(seed: u64, clients in 1u64..5, group in 1usize..40) {
        let (updates, reference) = session(seed, clients, 60);
        let mut document = Document::new(Limits::default());
        let new = feed(&mut document, &updates);
        let mut merged_client = Replica::new(ClientId(5));
        let mut again = Document::new(Limits::default());
        for group in new.chunks(group) {
            let merged = merge(group);
            // The table of a merged update is the one that parsing it gives.
            let parsed = parse(merged.bytes());
            prop_assert_eq!(parsed.ranges().collect::<Vec<_>>(), merged.ranges().collect::<Vec<_>>());
            merged_client.apply(merged.bytes());
            prop_assert!(!merged_client.is_waiting());
            // Some deletes follow from others and are known.
            let Admission::New(update) = again.admit(merged.clone()).unwrap() else { panic!("not new") };
            prop_assert!(update.ranges().eq(merged.ranges()));
        }
        assert_visible(&merged_client.json(), &reference.json());
        assert_same(&mut again, &reference);
    }

    #[test]
    fn what_fills_the_holes_of_another_is_not_lost(seed: u64, clients in 1u64..4, piles in 2usize..5) {
        let (updates, reference) = session(seed, clients, 40);
        let mut document = Document::new(Limits::default());
        let new = feed(&mut document, &updates);
        // Each pile has stretches of the same clients that lie between those of the others.
        let mut random = Random::new(seed ^ 5);
        let mut sorted = vec![Vec::new(); piles];
        for update in &new {
            let pile = random.below(piles as u32) as usize;
            sorted[pile].push(update);
            // Some of it is in two of them.
            if random.below(4) == 0 {
                sorted[(pile + 1) % piles].push(update);
            }
        }
        let merged: Vec<_> = sorted
            .into_iter()
            .filter(|pile| !pile.is_empty())
            .map(merge)
            // As it comes back from the store.
            .map(|pile| parse(pile.bytes()))
            .collect();
        let mut again = Document::new(Limits::default());
        let together = merge(&merged);
        prop_assert!(matches!(again.admit(together).unwrap(), Admission::New(_)));
        assert_same(&mut again, &reference);
        let rows = merged.iter().map(|update| update.bytes().clone());
        assert_same(&mut Document::load(Limits::default(), rows).unwrap(), &reference);
    }

    #[test]
    fn merging_with_holes_and_overlaps_serves_who_has_the_rest(seed: u64, clients in 1u64..4) {
        let (updates, reference) = session(seed, clients, 40);
        let mut document = Document::new(Limits::default());
        let new = feed(&mut document, &updates);
        let mut random = Random::new(seed ^ 3);
        // Of each batch the receiver already has what it could have by then, and gets the rest, some of it twice.
        let mut receiver = Document::new(Limits::default());
        let mut client = Replica::new(ClientId(6));
        for batch in new.chunks(12) {
            let mut gets = Vec::new();
            for update in batch {
                let has = random.below(2) == 0
                    && matches!(receiver.admit(update.clone()).unwrap(), Admission::New(_));
                if has {
                    client.apply(update.bytes());
                } else {
                    gets.push(update);
                    gets.extend((random.below(4) == 0).then_some(update));
                }
            }
            let rest = merge(gets);
            client.apply(rest.bytes());
            prop_assert!(!client.is_waiting());
            let admission = receiver.admit(rest).unwrap();
            prop_assert!(!matches!(admission, Admission::Early { .. } | Admission::Partly { .. }), "a batch is complete");
        }
        assert_visible(&client.json(), &reference.json());
        assert_same(&mut receiver, &reference);
    }

    #[test]
    fn asleep_or_awake_answers_alike(seed: u64, clients in 1u64..4) {
        let (updates, reference) = session(seed, clients, 40);
        let mut awake = Document::new(Limits::default());
        feed(&mut awake, &updates);
        let snapshot = awake.snapshot().unwrap();
        let mut asleep = Document::asleep(Limits::default(), snapshot.state.clone(), &snapshot.state_vector).unwrap();
        prop_assert_eq!(&asleep.encode().unwrap(), &snapshot.state);
        let mut random = Random::new(seed ^ 4);
        let known = trim_randomly(&mut random, awake.state_vector());
        let (from_asleep, from_awake) = (asleep.diff(&known).unwrap(), awake.diff(&known).unwrap());
        prop_assert!(!asleep.is_awake());
        prop_assert_eq!(parse(&from_asleep).ranges().len(), parse(&from_awake).ranges().len());
        let mut behind = Replica::new(ClientId(7));
        behind.apply(&snapshot.state);
        let edit = behind.edit(&mut random);
        // It takes new edits without having been woken by hand, and goes back to sleep.
        if edit.as_ref() != [0, 0] {
            prop_assert!(matches!(asleep.admit(parse(&edit)).unwrap(), Admission::New(_)));
            asleep.sleep().unwrap();
            prop_assert!(!asleep.is_awake());
        }
        let mut reference = reference;
        reference.apply(&edit);
        assert_same(&mut asleep, &reference);
    }
}

/// A replica that is behind by some amount for each client.
fn trim_randomly(random: &mut Random, known: &StateVector) -> StateVector {
    known
        .iter()
        .map(|(client, clock)| (client, random.below(clock + 1)))
        .collect()
}
