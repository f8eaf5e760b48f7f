//! Whose a client id is: what another user brings under it waits for its writer, and presence says who somebody is.

use crdt::{IdentityStamp, Limits, Update};

use super::{awareness::shows, *};

impl Stage {
    fn posts_as(&mut self, user: Option<&str>, update: &Bytes) -> Option<RefusalCode> {
        self.answers.clear();
        self.hand_over(Input::Posted {
            request: RequestId(1),
            member: None,
            user: user.map(Arc::from),
            update: update.clone(),
            condition: Condition::Always,
        });
        self.settle();
        self.answers.pop().and_then(|(_, answer)| answer.err())
    }

    /// Posts as a member who has each of its edits answered by itself.
    fn member_posts(&mut self, person: &Person, user: &str, update: &Bytes) -> Option<RefusalCode> {
        self.answers.clear();
        self.hand_over(Input::Posted {
            request: RequestId(1),
            member: Some(person.member),
            user: Some(Arc::from(user)),
            update: update.clone(),
            condition: Condition::Always,
        });
        self.settle();
        self.store_answers_everything();
        self.answers.pop().and_then(|(_, answer)| answer.err())
    }

    fn says_of_itself(&mut self, id: u64, stamp: IdentityStamp) -> Person {
        let member = MemberId(id);
        let outlet = Outbox::new(0);
        self.outboxes.insert(member, outlet.clone());
        self.hand_over(Input::Joined {
            member,
            role: Role::Edit,
            user: None,
            outlet,
            stamp: Some(Arc::new(stamp)),
        });
        self.settle();
        let replica = Replica::new(ClientId(id));
        let person = Person { member, replica };
        self.hears(&person);
        person
    }
}

#[test]
fn what_a_resync_has_of_another_who_is_here_waits_until_that_one_brings_it() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    // Bob hears of Alice's next edit by a way of his own, before the server does, and builds on it.
    let world = alice.types(" world");
    bob.replica.apply(&hello);
    bob.replica.apply(&world);
    bob.types("!");
    stage.resyncs(&bob);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello");
    assert_eq!(stage.refused.get("resync_of_another"), Some(&1));
    stage.hears(&bob);
    stage.edits(&alice, &world);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello world!");
    let acknowledged = |heard: &Heard| matches!(heard, Heard::Stored(_) | Heard::Delta(_));
    assert!(
        stage.hears(&bob).iter().any(acknowledged),
        "Bob's own edit counts"
    );
}

#[test]
fn what_a_resync_has_of_another_is_taken_in_when_that_one_has_left() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    bob.replica.apply(&hello);
    let world = alice.types(" world");
    bob.replica.apply(&world);
    stage.resyncs(&bob);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello");
    stage.hears(&bob);
    stage.leaves(&alice, Departure::Lost);
    assert!(
        matches!(stage.hears(&bob).as_slice(), [Heard::Step1(_)]),
        "he is asked for it"
    );
    stage.resyncs(&bob);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello world");
}

#[test]
fn what_two_wrote_in_answer_to_each_other_is_taken_in_when_both_have_brought_their_own() {
    let mut stage = Stage::new();
    let (mut alice, mut bob) = (stage.joins(1, "alice"), stage.joins(2, "bob"));
    let mut carol = stage.joins(3, "carol");
    for (turn, text) in ["0", "1", "2", "3", "4", "5"].into_iter().enumerate() {
        let is_even = turn % 2 == 0;
        let (one, other) = if is_even {
            (&mut alice, &mut bob)
        } else {
            (&mut bob, &mut alice)
        };
        let typed = one.types(text);
        other.replica.apply(&typed);
        // The room knows who writes, and loses what comes later.
        if turn < 2 {
            let one = if is_even { &alice } else { &bob };
            stage.edits(one, &typed);
        }
    }
    let before = stage.room.document().encode().unwrap();
    stage.hears(&carol);
    stage.resyncs(&alice);
    stage.resyncs(&bob);
    stage.store_answers_everything();
    carol.replica.apply(&before);
    let heard = stage.hears(&carol);
    carol.takes(&heard);
    assert_eq!(carol.text(), "012345");
    assert_eq!(stage.stored_text(), "012345");
    for person in [&alice, &bob] {
        let acknowledged = |heard: &Heard| matches!(heard, Heard::Stored(_) | Heard::Delta(_));
        assert!(stage.hears(person).iter().any(acknowledged));
    }
}

#[test]
fn a_forged_resync_never_becomes_known() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mallory = stage.joins(2, "mallory");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let mut forger = Replica::new(ClientId(1));
    forger.apply(&hello);
    forger.insert(5, " forged");
    stage.says(&mallory, ClientMessage::SyncStep2(forger.encode()));
    // What she writes herself, and not what was written in her name, is at these clocks.
    let world = alice.types(" world and more");
    stage.edits(&alice, &world);
    stage.leaves(&alice, Departure::Clean);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello world and more");
}

#[test]
fn a_client_id_stays_with_its_user_when_one_of_two_connections_that_wrote_with_it_has_left() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut again = stage.joins(2, "alice");
    let mallory = stage.joins(3, "mallory");
    let hello = alice.types("hello");
    stage.edits(&again, &hello);
    // The one that came first is the one that stays.
    let world = alice.types(" world");
    stage.edits(&alice, &world);
    again.replica.apply(&hello);
    again.replica.apply(&world);
    stage.leaves(&again, Departure::Clean);
    stage.hears(&mallory);
    let mut forger = Replica::new(ClientId(1));
    forger.apply(&hello);
    forger.apply(&world);
    let forged = forger.insert(0, "forged ");
    stage.edits(&mallory, &forged);
    assert_eq!(stage.hears(&mallory), [Heard::Closed(RefusalCode::Forbidden)]);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello world");
}

#[test]
fn nobody_posts_what_another_user_is_writing_but_a_backend() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let hello = alice.types("hello");
    stage.edits(&alice, &hello);
    let mut copy = Replica::new(ClientId(1));
    copy.apply(&hello);
    let more = copy.insert(5, " there");
    assert_eq!(
        stage.posts_as(Some("mallory"), &more),
        Some(RefusalCode::Forbidden)
    );
    assert_eq!(stage.posts_as(Some("mallory"), &hello), None, "that is known");
    assert_eq!(stage.posts_as(Some("alice"), &more), None);
    let again = copy.insert(11, "!");
    assert_eq!(stage.posts_as(None, &again), None);
    stage.store_answers_everything();
    assert_eq!(stage.stored_text(), "hello there!");
}

#[test]
fn who_posts_what_it_heard_of_another_does_not_take_the_others_place() {
    let mut stage = Stage::new();
    let mut alice = stage.joins(1, "alice");
    let mut bob = stage.joins(2, "bob");
    // Bob had heard of Alice's edit before the server was killed, and is the first to come back.
    let hello = alice.types("hello");
    bob.replica.apply(&hello);
    assert_eq!(stage.member_posts(&bob, "bob", &hello), None);
    let world = alice.types(" world");
    assert_eq!(stage.member_posts(&alice, "alice", &world), None);
    let mark = alice.types("!");
    assert_eq!(stage.member_posts(&alice, "alice", &mark), None);
    assert_eq!(stage.stored_text(), "hello world!");
    // From now on it is Alice who writes with her id.
    let more = alice.types("?");
    assert_eq!(
        stage.member_posts(&bob, "bob", &more),
        Some(RefusalCode::Forbidden)
    );
    // Together with what Bob wrote himself it is no offence, and waits for Alice.
    bob.replica.apply(&world);
    let own = bob.replica.insert(0, "own: ");
    let both = [own, more].map(|update| Update::parse(update, &Limits::default()).unwrap());
    let both = crdt::merge(&both).bytes().clone();
    assert_eq!(stage.member_posts(&bob, "bob", &both), None);
    assert_eq!(stage.stored_text(), "own: hello world!");
}

#[test]
fn presence_says_who_somebody_is_whatever_the_program_says() {
    let mut stage = Stage::new();
    let ada = stage.says_of_itself(1, IdentityStamp::new(Some("ada"), Some("Ada"), None));
    let watcher = stage.joins(2, "bob");
    let forged = r##"{"user":{"id":"bob","name":"Bob","color":"#fff"},"cursor":7}"##;
    let shown = r##"{"cursor":7,"user":{"color":"#fff","id":"ada","name":"Ada"}}"##;
    let told = |state: &str| Heard::Awareness(vec![(1, Some(state.to_owned()))]);
    stage.says(&ada, shows(&ada, 1, forged));
    assert_eq!(stage.hears(&watcher), [told(shown)]);
    // She hears how she is shown and goes on from there; what she says so already is not told twice.
    assert_eq!(stage.hears(&ada), [told(shown)]);
    stage.says(&ada, shows(&ada, 2, shown));
    assert_eq!(stage.hears(&watcher), []);
    // Who comes later is told the same.
    let late = stage.enters(3, Role::View, Some("eve"));
    assert!(stage.hears(&late).contains(&told(shown)));
    stage.says(&ada, shows(&ada, 3, "{}"));
    assert_eq!(
        stage.hears(&watcher),
        [told(r#"{"user":{"id":"ada","name":"Ada"}}"#)]
    );
}
