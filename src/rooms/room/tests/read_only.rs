//! Reading only: a viewer follows and shows itself, and changes nothing.

use super::*;

#[test]
fn a_viewer_follows_the_page() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let viewer = stage.enters(2, Role::View, Some("bob"));
    stage.hears(&viewer);
    stage.asks(&viewer);
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let heard = stage.hears(&viewer);
    assert!(heard.contains(&Heard::Delta(hello)), "{heard:?}");
}

#[test]
fn what_a_viewer_changes_is_refused_and_told_once() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let mut viewer = stage.enters(2, Role::View, Some("bob"));
    stage.hears(&viewer);
    for _ in 0..3 {
        let typed = viewer.types("x");
        stage.edits(&viewer, &typed);
    }
    stage.says(&viewer, ClientMessage::SyncStep2(viewer.replica.encode()));
    assert_eq!(stage.hears(&viewer), [Heard::Refused(RefusalCode::ReadOnly)]);
    assert_eq!(stage.refused.get("read_only"), Some(&4));
    assert_eq!(stage.hears(&alice), []);
    assert!(stage.append.is_none());
    assert!(stage.room.document().state_vector().is_empty());
}

#[test]
fn a_viewer_who_repeats_what_the_room_has_does_no_wrong() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let viewer = stage.enters(2, Role::View, Some("bob"));
    stage.hears(&viewer);
    stage.says(&viewer, ClientMessage::SyncStep2(hello));
    assert_eq!(stage.hears(&viewer), []);
    assert_eq!(stage.refused, BTreeMap::new());
}

#[test]
fn a_viewer_cannot_delete() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    stage.store_answers();
    let mut viewer = stage.enters(2, Role::View, Some("bob"));
    viewer.replica.apply(&hello);
    let gone = viewer.replica.replace(0, 5, "");
    stage.edits(&viewer, &gone);
    stage.says(&viewer, ClientMessage::SyncStep2(gone));
    assert!(stage.append.is_none());
    assert_eq!(text_of_room(&mut stage), "hello");
}

#[test]
fn a_viewer_shows_its_cursor() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    let viewer = stage.enters(2, Role::View, Some("bob"));
    stage.says(&viewer, awareness::shows(&viewer, 1, "{\"cursor\":3}"));
    assert_eq!(
        stage.hears(&alice),
        [Heard::Awareness(vec![(2, Some("{\"cursor\":3}".into()))])]
    );
}

fn text_of_room(stage: &mut Stage) -> String {
    let mut reader = Replica::new(ClientId(999));
    reader.apply(&stage.room.document().encode().unwrap());
    reader.text()
}
