//! What of a sequence has kept its order.

/// The longest rising part of a sequence of different numbers: all but this has been moved.
pub(super) fn longest_rising(numbers: &[usize]) -> Vec<usize> {
    // For each length the index of the lowest number in which a rising part of this length ends.
    let mut ends: Vec<usize> = Vec::new();
    let mut before = vec![None; numbers.len()];
    let at = |index: usize| numbers.get(index).copied().unwrap_or_default();
    for (index, &number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|&end| at(end) < number);
        if let Some(slot) = before.get_mut(index) {
            *slot = length
                .checked_sub(1)
                .and_then(|shorter| ends.get(shorter).copied());
        }
        match ends.get_mut(length) {
            Some(end) => *end = index,
            None => ends.push(index),
        }
    }
    let mut found = Vec::new();
    let mut next = ends.last().copied();
    while let Some(index) = next {
        found.push(at(index));
        next = before.get(index).copied().flatten();
    }
    found.reverse();
    found
}
