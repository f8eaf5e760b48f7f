//! What a member may do changes while it is there.

use super::*;

#[test]
fn whoever_is_downgraded_is_told_and_changes_nothing_more() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    let before = bob.types("kept");
    stage.edits(&bob, &before);
    // What waits for its predecessor is judged by the role at the time when it would be taken in.
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
    stage.says(&alice, ClientMessage::SyncStep2(missing));
    let heard = stage.hears(&alice);
    assert!(
        !heard.iter().any(|heard| *heard == Heard::Delta(early.clone())),
        "{heard:?}"
    );
    assert_eq!(stage.refused.get("read_only"), Some(&1));
    let mut reader = Replica::new(ClientId(999));
    reader.apply(&stage.room.document().encode().unwrap());
    assert_eq!(reader.text(), "kept1");
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
    assert!(stage.hears(&alice).contains(&Heard::Delta(typed)));
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
