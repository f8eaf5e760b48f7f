//! Fair turns among those that share a connection (pure).

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    task::Poll,
};

/// Whose turn it is: behind the one that spoke last.
#[derive(Debug)]
pub(super) struct Rotation<K> {
    last: Option<K>,
}

impl<K> Default for Rotation<K> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<K: Ord + Clone> Rotation<K> {
    /// Asks each in its turn until one has something. The next time the others are asked before it.
    pub(super) fn poll<V, T>(
        &mut self,
        members: &mut BTreeMap<K, V>,
        mut ask: impl FnMut(&mut V) -> Poll<T>,
    ) -> Poll<(K, T)> {
        let last = self.last.take();
        let (behind, before) = match &last {
            Some(last) => ((Excluded(last), Unbounded), Some((Unbounded, Included(last)))),
            None => ((Unbounded, Unbounded), None),
        };
        for range in [Some(behind), before].into_iter().flatten() {
            for (name, member) in members.range_mut::<K, _>(range) {
                if let Poll::Ready(answer) = ask(member) {
                    self.last = Some(name.clone());
                    return Poll::Ready((name.clone(), answer));
                }
            }
        }
        self.last = last;
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_spoken_is_asked_last() {
        let mut members: BTreeMap<&str, u32> = [("a", 2), ("b", 2), ("c", 0), ("d", 1)].into();
        let mut rotation = Rotation::default();
        let mut order = Vec::new();
        let mut ask = |left: &mut u32| match left.checked_sub(1) {
            Some(less) => {
                *left = less;
                Poll::Ready(())
            }
            None => Poll::Pending,
        };
        while let Poll::Ready((name, ())) = rotation.poll(&mut members, &mut ask) {
            order.push(name);
        }
        assert_eq!(order, ["a", "b", "d", "a", "b"]);
        members.remove("b");
        members.insert("a", 1);
        assert_eq!(rotation.poll(&mut members, &mut ask), Poll::Ready(("a", ())));
    }
}
