//! What a member may do changes while it is there.

use proptest::prelude::*;

use super::*;

#[test]
fn whoever_is_downgraded_is_told_and_changes_nothing_more() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    let before = bob.types("kept");
    stage.edits(&bob, &before);
    // What waits for its predecessor came when he might edit.
    let missing = bob.types("1");
    let early = bob.types("2");
    stage.edits(&bob, &early);
    stage.hears(&bob);
    stage.hears(&alice);
    stage.happens(Input::RoleChanged {
        member: bob.member,
        role: Role::View,
    });
    assert_eq!(stage.hears(&bob), [Heard::Refused(RefusalCode::ReadOnly)]);
    stage.edits(&bob, &missing);
    stage.hand_over(Input::Posted {
        request: RequestId(1),
        member: None,
        user: None,
        update: missing,
        condition: Condition::Always,
    });
    stage.settle();
    stage.store_answers_everything();
    let heard = stage.hears(&alice);
    assert!(
        !heard.iter().any(|heard| *heard == Heard::Delta(early.clone())),
        "{heard:?}"
    );
    assert_eq!(stage.refused.get("read_only"), Some(&1));
    let mut reader = Replica::new(ClientId(999));
    reader.apply(&stage.room.document().encode().unwrap());
    assert_eq!(reader.text(), "kept12");
}

#[test]
fn whoever_is_upgraded_is_asked_for_what_it_wrote_meanwhile() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let mut bob = stage.enters(2, Role::View, Some("bob"));
    let typed = bob.types("mine");
    stage.edits(&bob, &typed);
    stage.hears(&bob);
    stage.happens(Input::RoleChanged {
        member: bob.member,
        role: Role::Edit,
    });
    let heard = stage.hears(&bob);
    assert!(matches!(heard.as_slice(), [Heard::Step1(_)]), "{heard:?}");
    stage.says(&bob, ClientMessage::SyncStep2(bob.replica.encode()));
    stage.store_answers();
    assert_eq!(stage.hears(&alice), [Heard::Delta(typed)]);
}

#[test]
fn whoever_is_removed_is_gone_with_its_presence_and_unheard() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    stage.says(&bob, awareness::shows(&bob, 1, "{}"));
    stage.hears(&alice);
    stage.happens(Input::Removed {
        member: bob.member,
        refusal: Refusal::new(RefusalCode::Forbidden, "revoked"),
    });
    assert_eq!(stage.hears(&alice), [Heard::Awareness(vec![(2, None)])]);
    let typed = bob.types("late");
    stage.edits(&bob, &typed);
    assert_eq!(stage.hears(&alice), []);
    assert!(stage.room.document().state_vector().is_empty());
}

/// What may happen to one of a few people.
#[derive(Clone, Copy, Debug)]
enum Event {
    Enters(Role),
    ChangesTo(Role),
    Writes,
    Deletes,
    WritesTwiceAndTheSecondComesFirst,
    Resyncs,
    IsRemoved,
    IsLost,
}

fn event() -> impl Strategy<Value = Event> {
    let role = || {
        prop_oneof![
            Just(Role::View),
            Just(Role::Comment),
            Just(Role::Edit),
            Just(Role::Admin)
        ]
    };
    prop_oneof![
        2 => role().prop_map(Event::Enters),
        3 => role().prop_map(Event::ChangesTo),
        6 => Just(Event::Writes),
        3 => Just(Event::Deletes),
        2 => Just(Event::WritesTwiceAndTheSecondComesFirst),
        2 => Just(Event::Resyncs),
        1 => Just(Event::IsRemoved),
        1 => Just(Event::IsLost),
    ]
}

proptest! {
    /// Each person's role is written down beside the room. Whatever somebody brings who may not edit leaves the page as it was.
    #[test]
    fn no_order_of_grants_revocations_and_edits_lets_in_what_is_forbidden(
        events in proptest::collection::vec((0_u64..3, event()), 1..60),
    ) {
        let mut stage = Stage::new();
        let mut people: BTreeMap<u64, (Person, Option<Role>)> = BTreeMap::new();
        let mut next_member = 0;
        for (who, event) in events {
            let (person, role) = people.entry(who).or_insert_with(|| {
                let replica = Replica::new(ClientId(1000 + who));
                (Person { member: MemberId(u64::MAX), replica }, None)
            });
            let before = stage.room.document().encode().unwrap();
            let may = role.is_some_and(Role::may_edit);
            match event {
                Event::Enters(granted) if role.is_none() => {
                    next_member += 1;
                    let name = format!("user {who}");
                    person.member = stage.enters(next_member, granted, Some(&name)).member;
                    *role = Some(granted);
                }
                Event::ChangesTo(granted) => {
                    stage.happens(Input::RoleChanged { member: person.member, role: granted });
                    *role = role.map(|_| granted);
                }
                Event::Writes => {
                    let typed = person.types("x");
                    stage.edits(person, &typed);
                }
                Event::Deletes => {
                    // The engine of these people shows what waits for something missing, and would build on it.
                    let nothing = StateVector::new();
                    let admitted = stage.room.document().admitted_since(&nothing).unwrap();
                    person.replica.apply(&admitted);
                    if !person.text().is_empty() {
                        let deleted = person.replica.replace(0, 1, "");
                        stage.edits(person, &deleted);
                    }
                }
                Event::WritesTwiceAndTheSecondComesFirst => {
                    let (first, second) = (person.types("1"), person.types("2"));
                    stage.edits(person, &second);
                    stage.edits(person, &first);
                }
                Event::Resyncs => {
                    let whole = person.replica.encode();
                    stage.says(person, ClientMessage::SyncStep2(whole));
                }
                Event::IsRemoved => {
                    let refusal = Refusal::new(RefusalCode::Forbidden, "revoked");
                    stage.happens(Input::Removed { member: person.member, refusal });
                    *role = None;
                }
                Event::IsLost => {
                    stage.leaves(person, Departure::Lost);
                    *role = None;
                }
                Event::Enters(_) => {}
            }
            let after = stage.room.document().encode().unwrap();
            prop_assert!(may || after == before, "{event:?} of {who} as {role:?}");
            // Somebody who may edit and is in sync is heard: the room does not keep everybody out.
            if may && matches!(event, Event::Resyncs) {
                let person = &people[&who].0;
                let known = stage.room.document().state_vector().get(ClientId(1000 + who));
                prop_assert_eq!(known, person.replica.state_vector().get(ClientId(1000 + who)));
            }
        }
    }
}
