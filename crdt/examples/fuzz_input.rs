//! Shows what a kept input of the `structured` fuzz target offers to a document: one dump for each update.
#![expect(clippy::print_stdout, reason = "that is what it is for")]

use pageroom_crdt::testing::fuzz;

fn main() {
    for path in std::env::args().skip(1) {
        match std::fs::read(&path) {
            Ok(input) => println!("{path}\n{}", fuzz::explain(&input)),
            Err(error) => eprintln!("{path}: {error}"),
        }
    }
}
