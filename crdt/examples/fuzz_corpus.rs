//! Writes the inputs that fuzzing starts from, out of the recorded sessions: `fuzz_corpus TRACES CORPUS`.

use std::path::Path;
use std::{fs, io};

use pageroom_crdt::encoding::Write as _;
use pageroom_crdt::testing::traces::{ConcurrentTrace, merge_cases};
use pageroom_crdt::testing::{Random, Replica};
use pageroom_crdt::{ClientId, StateVector, message};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(traces), Some(corpus)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("two folders are needed: traces and corpus"));
    };
    let (traces, corpus) = (Path::new(&traces), Path::new(&corpus));
    let mut updates = Vec::new();
    for case in merge_cases(&fs::read(traces.join("small-test-dataset.bin.gz"))?)
        .iter()
        .step_by(60)
    {
        updates.push(input(&case.updates, 900));
    }
    for name in ["friendsforever.json.gz", "clownschool.json.gz"] {
        let trace = ConcurrentTrace::read(&fs::read(traces.join(name))?);
        let authored = trace.updates(ClientId(100));
        let session: Vec<_> = authored.into_iter().map(|authored| authored.update).collect();
        updates.extend(session.chunks(24).step_by(90).map(|stretch| input(stretch, 900)));
        updates.push(input(&session, 900));
    }
    let mut random = Random::new(11);
    let mut replica = Replica::new(ClientId(77));
    for _ in 0..24 {
        let edits: Vec<_> = (0..6).map(|_| replica.edit(&mut random)).collect();
        updates.push(input(&edits, 900));
    }
    write(&corpus.join("updates"), &updates)?;
    let structured: Vec<Vec<u8>> = (0..48)
        .map(|_| (0..120).map(|_| random.bits() as u8).collect())
        .collect();
    write(&corpus.join("structured"), &structured)?;
    let state_vector = replica.state_vector().encode();
    let awareness = [1, 11, 1, 12]
        .iter()
        .chain(br#"{"user":"a"}"#)
        .copied()
        .collect::<Vec<_>>();
    let messages = [
        state_vector.to_vec(),
        StateVector::new().encode().to_vec(),
        message::sync_step_1(&state_vector).to_vec(),
        message::sync_step_2(&replica.encode()).to_vec(),
        message::awareness(&awareness).to_vec(),
        message::permission_denied("no").to_vec(),
        awareness,
    ];
    write(&corpus.join("messages"), &messages)
}

/// As the target reads it: a byte that chooses the document, then the updates as buffers.
fn input(updates: &[bytes::Bytes], most: usize) -> Vec<u8> {
    let mut input = vec![0];
    for update in updates {
        if input.len() + update.len() > most {
            break;
        }
        input.put_buffer(update);
    }
    input
}

fn write(folder: &Path, inputs: &[Vec<u8>]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (index, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("{index:03}")), input)?;
    }
    Ok(())
}
