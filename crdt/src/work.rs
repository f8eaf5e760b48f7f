//! Counts the steps that the struct store takes, for tests that bound them; a server counts nothing.

#[cfg(feature = "testing")]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts something looked at: a struct, a range, or the bytes of a block.
#[inline]
pub(crate) fn steps(count: usize) {
    #[cfg(feature = "testing")]
    STEPS.with(|steps| steps.set(steps.get() + count as u64));
    #[cfg(not(feature = "testing"))]
    let _ = count;
}

/// How many steps a call took in this thread.
#[cfg(feature = "testing")]
pub fn steps_of<T>(call: impl FnOnce() -> T) -> (T, u64) {
    let before = STEPS.with(std::cell::Cell::get);
    let done = call();
    (done, STEPS.with(std::cell::Cell::get) - before)
}
