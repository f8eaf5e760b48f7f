//! Writes updates struct by struct.

use bytes::Bytes;
use pageroom_crdt::encoding::Write as _;
use pageroom_crdt::testing::dump;
use pageroom_crdt::{ClientId, Document, Limits, Update};

pub(crate) const DELETED: u8 = 1;
pub(crate) const JSON: u8 = 2;
pub(crate) const BINARY: u8 = 3;
pub(crate) const STRING: u8 = 4;
pub(crate) const EMBED: u8 = 5;
pub(crate) const FORMAT: u8 = 6;
pub(crate) const TYPE: u8 = 7;
pub(crate) const ANY: u8 = 8;
pub(crate) const DOC: u8 = 9;

/// Where a struct goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At<'a> {
    Root(&'a str),
    RootKey(&'a str, &'a str),
    In(u64, u32),
    InKey(u64, u32, &'a str),
    After(u64, u32),
    Between((u64, u32), (u64, u32)),
}

/// A struct as it is on the wire.
pub(crate) fn item(kind: u8, at: At<'_>, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let id = |out: &mut Vec<u8>, client: u64, clock: u32| {
        out.put_number(client);
        out.put_number(clock.into());
    };
    match at {
        At::Root(name) => {
            out.put_raw(&[kind, 1]);
            out.put_string(name);
        }
        At::RootKey(name, key) => {
            out.put_raw(&[kind | 0x20, 1]);
            out.put_string(name);
            out.put_string(key);
        }
        At::In(client, clock) => {
            out.put_raw(&[kind, 0]);
            id(&mut out, client, clock);
        }
        At::InKey(client, clock, key) => {
            out.put_raw(&[kind | 0x20, 0]);
            id(&mut out, client, clock);
            out.put_string(key);
        }
        At::After(client, clock) => {
            out.put_byte(kind | 0x80);
            id(&mut out, client, clock);
        }
        At::Between(left, right) => {
            out.put_byte(kind | 0xc0);
            id(&mut out, left.0, left.1);
            id(&mut out, right.0, right.1);
        }
    }
    out.put_raw(content);
    out
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_string(text);
    out
}

/// Structs of several clients, each from clock 0 on, and deletes: client, clock, length.
pub(crate) fn update(sections: &[(u64, &[Vec<u8>])], deletes: &[(u64, u32, u32)]) -> Bytes {
    let mut out = Vec::new();
    out.put_number(sections.len() as u64);
    for (client, structs) in sections {
        out.put_number(structs.len() as u64);
        out.put_number(*client);
        out.put_number(0);
        structs.iter().for_each(|of| out.put_raw(of));
    }
    let of_clients: Vec<_> = deletes.chunk_by(|left, right| left.0 == right.0).collect();
    out.put_number(of_clients.len() as u64);
    for ranges in of_clients {
        out.put_number(ranges[0].0);
        out.put_number(ranges.len() as u64);
        for (_, clock, length) in ranges {
            out.put_number(u64::from(*clock));
            out.put_number(u64::from(*length));
        }
    }
    out.into()
}

pub(crate) fn load(bytes: Bytes) -> Document {
    Document::load(Limits::default(), [bytes]).unwrap()
}

pub(crate) fn parse(bytes: Bytes) -> Update {
    Update::parse(bytes, &Limits::default()).unwrap()
}

/// The client that rebuilds.
pub(crate) const REBUILDER: ClientId = ClientId(3);

/// The structs of the rebuilt document, one a line.
pub(crate) fn rebuilt(bytes: Bytes) -> String {
    dump(&load(bytes).rebuilt(REBUILDER).unwrap())
}
