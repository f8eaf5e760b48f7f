//! What is to be seen of a room's presence from outside, and what the server shows there.

use super::{awareness::shows, *};

const ALICE: &str = "{\"name\":\"alice\"}";
/// A client that the server speaks for.
const OLD: u64 = 1 << 52;

fn watch(stage: &mut Stage, is_watched: bool) {
    stage.hand_over(Input::Watched { is_watched });
    stage.settle();
}

fn show(stage: &mut Stage, state: Option<&str>) {
    let states = [(ClientId(OLD), state.map(Arc::from))].into();
    stage.hand_over(Input::Shown { states });
    stage.settle();
}

/// A client with the member whose it is and its state.
type Client = (u64, Option<(u64, String)>);

/// What was seen since that was last asked, whether it is all, and whether the document was edited.
fn seen(stage: &mut Stage) -> Vec<(Vec<Client>, bool, bool)> {
    let seen = std::mem::take(&mut stage.seen).into_iter();
    seen.map(|sight| {
        let clients = sight.clients.into_iter();
        let clients = clients.map(|(client, shown)| {
            let shown = shown.map(|(member, state)| (member.0, state.to_string()));
            (client.0, shown)
        });
        (clients.collect(), sight.is_whole, sight.is_edited)
    })
    .collect()
}

fn own(state: Option<&str>) -> Heard {
    Heard::Awareness(vec![(OLD, state.map(str::to_owned))])
}

#[test]
fn who_looks_sees_all_that_there_is_and_then_what_changes() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    stage.says(&alice, shows(&alice, 1, ALICE));
    assert_eq!(seen(&mut stage), [], "nobody looks");
    let alices = |state: &str| (1, Some((1, state.to_owned())));
    watch(&mut stage, true);
    assert_eq!(seen(&mut stage), [(vec![alices(ALICE)], true, false)]);
    watch(&mut stage, true);
    assert_eq!(seen(&mut stage), [], "it knows that");
    let typed = alice.types("a");
    stage.says(&alice, ClientMessage::Update(typed));
    assert_eq!(seen(&mut stage), [(vec![], false, true)]);
    stage.says(&alice, shows(&alice, 2, "{}"));
    assert_eq!(seen(&mut stage), [(vec![alices("{}")], false, false)]);
    stage.leaves(&alice, Departure::Clean);
    assert_eq!(seen(&mut stage), [(vec![(1, None)], false, false)]);
}

#[test]
fn what_the_server_shows_is_seen_by_members_and_goes_when_nobody_looks() {
    let mut stage = Stage::new();
    let alice = stage.joins(1, "alice");
    show(&mut stage, Some(ALICE));
    assert_eq!(
        stage.hears(&alice),
        [],
        "nobody looks, so nobody would withdraw it"
    );
    watch(&mut stage, true);
    show(&mut stage, Some(ALICE));
    assert_eq!(stage.hears(&alice), [own(Some(ALICE))]);
    let bob = stage.enters(2, Role::View, None);
    assert!(stage.hears(&bob).contains(&own(Some(ALICE))), "and by who comes");
    show(&mut stage, Some("{}"));
    assert_eq!(stage.hears(&bob), [own(Some("{}"))]);
    seen(&mut stage);
    // Whoever says it back, or claims it, changes nothing.
    stage.hears(&alice);
    let change = AwarenessChange {
        client: ClientId(OLD),
        clock: 100,
        state: Some(ALICE.into()),
    };
    let claim = ClientMessage::Awareness(crdt::awareness::encode_changes(&[change]));
    stage.says(&alice, claim);
    assert_eq!((stage.hears(&alice), stage.hears(&bob)), (vec![], vec![]));
    assert_eq!(stage.refused.get("foreign_awareness"), Some(&1));
    // It is renewed as long as somebody looks.
    stage.passes(seconds(15));
    assert_eq!(stage.hears(&bob), [own(Some("{}"))]);
    watch(&mut stage, false);
    assert_eq!(stage.hears(&bob), [own(None)]);
    assert_eq!(seen(&mut stage), [], "the server knows what it shows");
    stage.passes(seconds(60));
    assert_eq!(stage.hears(&bob), []);
}
