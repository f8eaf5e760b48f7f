//! A member that shows itself and hears nothing: who writes over REST.

use super::{awareness::shows, *};

#[test]
fn who_is_deaf_is_seen_and_costs_nothing_however_much_others_write() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let (member, outbox) = (MemberId(2), Outbox::deaf());
    stage.happens(Input::Joined {
        member,
        role: Role::Edit,
        user: Some("bot".into()),
        stamp: None,
        outlet: outbox.clone(),
    });
    let bot = Person {
        member,
        replica: Replica::new(ClientId(2)),
    };
    stage.says(&bot, shows(&bot, 1, "\"writing\""));
    let heard = stage.hears(&alice);
    let shown = Heard::Awareness(vec![(2, Some("\"writing\"".to_owned()))]);
    assert!(heard.contains(&shown), "{heard:?}");
    for _ in 0..100 {
        let typed = alice.types(&"x".repeat(1000));
        stage.edits(&alice, &typed);
        stage.store_answers_everything();
    }
    assert_eq!(outbox.queued_bytes(), 0);
    assert!(outbox.next().is_none(), "nothing waits, and it is not behind");
    stage.happens(Input::RoleChanged {
        member,
        role: Role::View,
    });
    assert!(
        matches!(outbox.next(), Some(Next::Close(refusal)) if refusal.code == RefusalCode::ReadOnly),
        "it is hung up on when it may not edit any more"
    );
}
