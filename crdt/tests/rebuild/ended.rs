//! Which state vectors and which updates come from a former generation.

use pageroom_crdt::encoding::{MAX_SAFE_INTEGER, ReadError, Write as _};
use pageroom_crdt::{
    ClientId, DecodeError, EndedClients, MAX_ENDED_CLIENTS, StateVector, TooManyEndedClients,
};
use proptest::prelude::*;

use super::writer::*;

fn ended(clients: impl IntoIterator<Item = u64>) -> EndedClients {
    EndedClients::new().with(&knows(clients)).unwrap()
}

fn knows(clients: impl IntoIterator<Item = u64>) -> StateVector {
    clients.into_iter().map(|client| (ClientId(client), 1)).collect()
}

#[test]
fn generations_add_up() {
    let first = ended([5, 1, MAX_SAFE_INTEGER]);
    let both = first.with(&knows([0, 5, 7])).unwrap();
    assert_eq!(both, ended([0, 1, 5, 7, MAX_SAFE_INTEGER]));
    assert_eq!((first.len(), both.len()), (3, 5));
    assert!(both.contains(ClientId(7)) && !first.contains(ClientId(7)));
    // The count, and how many ids lie between each two.
    assert_eq!(ended([0, 1, 5, 7]).encode().as_ref(), [4, 0, 0, 3, 1]);
}

#[test]
fn a_state_vector_of_a_former_generation_is_known() {
    let former = ended([5, 900]);
    assert!(former.knows_any_of(&knows([1, 2, 900])));
    assert!(!former.knows_any_of(&knows([1, 2, 901])));
    assert!(!former.knows_any_of(&StateVector::new()));
    assert!(!EndedClients::new().knows_any_of(&knows([5])));
}

#[test]
fn an_update_that_names_a_former_client_anywhere_is_known() {
    let former = ended([50, 60]);
    let x = text("x");
    let new = item(STRING, At::Root("t"), &x);
    for (structs, deletes, is_named) in [
        // Whatever the root types and keys are called.
        (
            vec![(9, item(STRING, At::Root("50"), &text("50")))],
            vec![],
            false,
        ),
        (
            vec![(9, item(STRING, At::After(8, 0), &x))],
            vec![(7, 0, 1)],
            false,
        ),
        (vec![(50, new.clone())], vec![], true),
        (vec![(60, new.clone()), (9, new.clone())], vec![], true),
        (vec![(9, item(STRING, At::After(50, 3), &x))], vec![], true),
        (
            vec![(9, item(STRING, At::Between((8, 0), (60, 0)), &x))],
            vec![],
            true,
        ),
        (vec![(9, item(STRING, At::In(50, 3), &x))], vec![], true),
        (vec![(9, item(STRING, At::InKey(60, 3, "k"), &x))], vec![], true),
        (vec![(9, new.clone())], vec![(8, 0, 1), (50, 0, 1)], true),
        (vec![], vec![(60, 2, 3), (8, 0, 1)], true),
        (vec![], vec![(61, 2, 3), (8, 0, 1)], false),
    ] {
        let structs: Vec<_> = structs.into_iter().map(|(client, of)| (client, [of])).collect();
        let sections: Vec<_> = structs.iter().map(|(client, of)| (*client, &of[..])).collect();
        let update = parse(update(&sections, &deletes));
        assert_eq!(former.are_named_in(&update), is_named, "{sections:?} {deletes:?}");
        assert!(!EndedClients::new().are_named_in(&update));
    }
    // Behind others of the same client.
    let structs = [
        new.clone(),
        item(STRING, At::After(9, 0), &x),
        item(STRING, At::After(60, 0), &x),
    ];
    assert!(former.are_named_in(&parse(update(&[(9, &structs)], &[]))));
}

#[test]
fn a_page_that_is_rebuilt_knows_the_replicas_of_the_former_one() {
    let structs = [item(STRING, At::Root("t"), &text("ab"))];
    let mut page = load(update(&[(1, &structs)], &[]));
    let former = EndedClients::new().with(page.state_vector()).unwrap();
    let late = parse(update(&[(2, &[item(STRING, At::After(1, 1), &text("c"))])], &[]));
    assert!(former.knows_any_of(page.state_vector()) && former.are_named_in(&late));
    let rebuilt = load(page.rebuilt(REBUILDER).unwrap());
    let next = parse(update(&[(2, &[item(STRING, At::After(3, 1), &text("c"))])], &[]));
    assert!(!former.knows_any_of(rebuilt.state_vector()) && !former.are_named_in(&next));
}

#[test]
fn no_more_are_remembered_than_the_bound_says() {
    let most = MAX_ENDED_CLIENTS as u64;
    let full = ended(0..most);
    assert_eq!(EndedClients::decode(&full.encode()).as_ref(), Ok(&full));
    assert_eq!(full.with(&knows([0, most - 1])).as_ref(), Ok(&full));
    assert_eq!(full.with(&knows([most])), Err(TooManyEndedClients));
    let mut bytes = Vec::new();
    bytes.put_number(most + 1);
    bytes.extend(std::iter::repeat_n(0, MAX_ENDED_CLIENTS + 1));
    let limit = MAX_ENDED_CLIENTS;
    assert_eq!(
        EndedClients::decode(&bytes),
        Err(DecodeError::TooManyClients { limit })
    );
}

#[test]
fn what_is_not_such_a_set_is_refused() {
    let mut beyond = vec![2];
    beyond.put_number(MAX_SAFE_INTEGER);
    beyond.put_byte(0);
    let at_end = ReadError::UnexpectedEnd { position: 0 };
    for (bytes, error) in [
        (&[][..], at_end.into()),
        (&[3, 0, 0], at_end.into()),
        (&[1, 0x80], ReadError::UnexpectedEnd { position: 1 }.into()),
        (&[1, 0, 0], DecodeError::TrailingBytes { position: 2 }),
        (&beyond, ReadError::InvalidNumber { position: 9 }.into()),
    ] {
        assert_eq!(EndedClients::decode(bytes), Err(error), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn a_set_is_what_was_put_into_it(clients in proptest::collection::btree_set(0..=MAX_SAFE_INTEGER, 0..60), others in proptest::collection::vec(0..=MAX_SAFE_INTEGER, 0..20)) {
        let set = ended(clients.iter().copied());
        let decoded = EndedClients::decode(&set.encode());
        prop_assert_eq!(decoded.as_ref(), Ok(&set));
        for client in clients.iter().chain(&others) {
            prop_assert_eq!(set.contains(ClientId(*client)), clients.contains(client));
        }
    }

    #[test]
    fn random_bytes_are_one_set_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(set) = EndedClients::decode(&bytes) {
            prop_assert_eq!(set.encode(), bytes);
        }
    }
}
