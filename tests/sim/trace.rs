//! What happened in a run, as a fingerprint, and in words when somebody wants to read it.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

pub(crate) struct Trace {
    start: Instant,
    pub(crate) now: Instant,
    fingerprint: u64,
    /// How many frames have arrived somewhere.
    pub(crate) frames: usize,
    words: Option<String>,
}

impl Trace {
    pub(crate) fn new(start: Instant, in_words: bool) -> Self {
        Self {
            start,
            now: start,
            // FNV-1a
            fingerprint: 0xcbf2_9ce4_8422_2325,
            frames: 0,
            words: in_words.then(String::new),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in self.elapsed().as_micros().to_le_bytes().iter().chain(bytes) {
            self.fingerprint = (self.fingerprint ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Notes that a frame has arrived.
    pub(crate) fn frame(&mut self, frame: &[u8]) {
        self.frames += 1;
        self.bytes(frame);
    }

    /// Notes a sentence.
    pub(crate) fn note(&mut self, sentence: impl FnOnce() -> String) {
        let sentence = sentence();
        self.bytes(sentence.as_bytes());
        let elapsed = self.elapsed();
        if let Some(words) = &mut self.words {
            let _ = writeln!(words, "{:>10.3} {sentence}", elapsed.as_secs_f64() * 1000.0);
        }
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(crate) fn words(&self) -> &str {
        self.words.as_deref().unwrap_or_default()
    }
}
